package main

import _ "github.com/opscenter/opscenter/internal/diagnosis/corpus/stage/guest"
