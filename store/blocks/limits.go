package blocks

import "github.com/xenoserver/xeno/store"

const (
	// defaultMaxBytes is the size limit of a store that names none: room for
	// a few images and what passes by.
	defaultMaxBytes = 10 << 30
	// defaultMaxBlocks bounds the index in memory, about 250 bytes a block:
	// 64 MiB. With full chunks that is 256 GiB of content.
	defaultMaxBlocks = 1 << 18
	// pageBytes is what the smallest block costs on a disk. Sizes are counted
	// in whole pages, so that the limit holds for many small blocks too.
	pageBytes = 4 << 10

	// chunkBytes and fileWidth are those of the profile unixfs-v1-2025.
	chunkBytes = 1 << 20
	fileWidth  = 1024

	// maxFileDepth bounds the levels of a file's DAG. At width 1024 three
	// levels hold a pebibyte; narrow foreign trees have a few more.
	maxFileDepth = 32
	// maxShardDepth bounds the levels of a sharded directory: its hash has
	// 64 bits and a level takes at least 3.
	maxShardDepth = 22
	// maxTreeDepth bounds directories in directories, below the 4096 bytes
	// of a path.
	maxTreeDepth = 64
	// defaultMaxEntries bounds the files and directories of one tree: a
	// directory block that names another a thousand times, six levels deep,
	// would be 10^18.
	defaultMaxEntries = 1 << 20
	// maxNodes bounds the blocks that one read visits, leaves included:
	// 4 TiB of full chunks.
	maxNodes = 1 << 22
	// maxName bounds the name of a directory entry, as file systems do.
	maxName = 255
	// maxSymlink bounds the target of a symbolic link, as Linux does.
	maxSymlink = 4095

	// prefetch is how many blocks of one node are asked for ahead of the
	// reader: 16 MiB, 100 ms of a gigabit line and a half.
	prefetch = 16
	// prefetchEntries is the same for a directory. Directories nest, and each
	// level holds its own: 64 levels of 4 blocks are 256 MiB at worst.
	prefetchEntries = 4

	// maxPins bounds the files in the directory of pins.
	maxPins = 1 << 16
	// maxPinFile bounds the description of a pin.
	maxPinFile = 4 << 10

	maxBlock = store.MaxBlock
)
