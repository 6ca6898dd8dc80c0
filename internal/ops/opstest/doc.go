// Package opstest holds one conformance suite for every contract of package
// ops, run by each implementation and each fake. It knows no implementation.
package opstest
