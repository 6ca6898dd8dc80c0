package agent

const sysPreadv2 = 286 // SYS_PREADV2, which package syscall does not name
