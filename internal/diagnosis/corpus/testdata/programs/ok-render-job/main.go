// Ok-render-job renders pictures of tables, one after the other.
package main

import (
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"time"

	"github.com/opscenter/opscenter/internal/diagnosis/corpus/stage"
)

func shade(img *image.RGBA, phase float64) {
	b := img.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			v := math.Sin(float64(x)/17+phase) + math.Cos(float64(y)/23-phase)
			img.SetRGBA(x, y, color.RGBA{uint8(v * 60), uint8(x), uint8(y), 255})
		}
	}
}

func blur(img *image.RGBA) {
	for i := 4; i < len(img.Pix)-4; i++ {
		img.Pix[i] = uint8((int(img.Pix[i-4]) + 2*int(img.Pix[i]) + int(img.Pix[i+4])) / 4)
	}
}

func histogram(img *image.RGBA) (h [256]int) {
	for range 6 {
		for _, p := range img.Pix {
			h[p]++
		}
	}
	return h
}

func main() {
	s := stage.Start()
	img := image.NewRGBA(image.Rect(0, 0, 480, 320))
	for n := 0.0; s.Context().Err() == nil; n++ {
		shade(img, n/10)
		blur(img)
		blur(img)
		histogram(img)
		if int(n)%4 == 0 {
			_ = png.Encode(io.Discard, img)
		}
		time.Sleep(time.Millisecond)
	}
	s.Wait()
}
