package meter

//go:generate go tool bpf2go -go-package meter -target bpfel -type question -type used -type tally -type place -cflags "-O2 -g -mcpu=v3 -Wall -Werror" meter meter.bpf.c
