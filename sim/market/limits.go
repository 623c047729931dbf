package market

const (
	// MaxServers bounds a market: the columns of ten million servers take
	// about 2 GB.
	MaxServers = 10_000_000
	// maxFileBytes bounds a CSV file.
	maxFileBytes = 256 << 20
	// maxRows bounds the rows of a CSV file.
	maxRows = 1_000_000
	// maxNumber bounds every number of a machine type, far beyond what
	// exists, so that nothing overflows.
	maxNumber = 1e12
	// maxText bounds a text in bytes, as the schema does.
	maxText = 256
	// maxTexts bounds the different values of a column with 16-bit codes.
	maxTexts = 1<<16 - 1
	// sampleServers is how many servers the query generator looks at before it
	// counts them all: a share of 0.1 % is 20 of them.
	sampleServers = 20_000
	// maxTries bounds how often the query generator begins again with another
	// server for one query.
	maxTries = 200
	// rareServers is of how many servers a needle takes the rarest: one in a
	// thousand of several dimensions together is one in a million of each.
	rareServers = 1000
	// maxSteps bounds how often it widens or narrows one query.
	maxSteps = 20
)
