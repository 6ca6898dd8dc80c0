package agent

const sysPreadv2 = 327 // SYS_PREADV2, which package syscall does not name
