module service

go 1.16
