package meter

//go:generate go tool bpf2go -go-package meter -target bpfel -type question -type used -type tally -cflags "-O2 -g -mcpu=v3 -Wall -Werror" meter meter.bpf.c
