// The tests of token datasets.
