// Package profile reads pprof profiles of any program into columns, and answers
// from them what people and rules ask: tables by function, call trees, callers
// and callees, comparisons; it also sums and subtracts profiles and makes the
// reduced copies that a browser can show. Where pprof has the same figure, it is
// the same to the unit. It takes any bytes, within limits that it holds before
// it allocates, and never panics. It knows nothing of where profiles come from,
// who looks at them, or what they mean for a program's health.
package profile
