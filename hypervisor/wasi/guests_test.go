package wasi
