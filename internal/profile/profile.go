// Package profile reads pprof profiles: it sums them, subtracts them, and makes
// the reduced copies that a browser can show. It takes any bytes, within limits
// that it holds before it allocates, and never panics. It knows nothing of where
// profiles come from or who looks at them.
package profile
