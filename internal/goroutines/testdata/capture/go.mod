module capture

go 1.22
