package inflate

// Deflated unpacks what has neither header nor sums.
func (f *Inflater) Deflated(src []byte, bound int) ([]byte, error) {
	f.src, f.pos, f.dst, f.out, f.from, f.bound = src, 0, nil, 0, 0, bound
	err := f.deflated()
	return f.dst[:f.out], err
}
