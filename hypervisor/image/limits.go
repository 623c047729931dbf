package image

const (
	// maxManifestBytes bounds manifest.json, which has about 500 bytes.
	maxManifestBytes = 16 << 10
	// maxFileBytes bounds a kernel or an initrd: both are unpacked into the
	// memory of the smallest guests.
	maxFileBytes = 256 << 20
	// maxModuleBytes bounds one module after decompression.
	maxModuleBytes = 16 << 20
	// maxModules bounds the modules of an image; the drivers need a dozen.
	maxModules = 64
	// maxApplets bounds busybox's own list; it knows about 400.
	maxApplets = 2000
)
