package node

import (
	"math"
	"math/rand/v2"
	"testing"
)

// The sums are compared between processes of different releases.
func TestElementOfIsPinned(t *testing.T) {
	for _, tt := range []struct{ hash, generation, want uint64 }{
		{0, 0, 0},
		{0, 1, 0xe220a8397b1dcdaf}, // the first output of splitmix64 from seed 0
		{1, 0, 0x5692161d100b05e5},
		{0x42d734de10643035, 7, 0x1fac0427a7d10a7b},
		{math.MaxUint64, math.MaxUint64, 0xde0a564cbcd060c4},
	} {
		if got := ElementOf(tt.hash, tt.generation); got != tt.want {
			t.Errorf("ElementOf(%#x, %d) = %#x, want %#x", tt.hash, tt.generation, got, tt.want)
		}
	}
}

func TestSumForgetsTheOrder(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	var sum Sum
	claims := make([][2]uint64, 100)
	for i := range claims {
		claims[i] = [2]uint64{rnd.Uint64(), rnd.Uint64N(3)}
		sum.SubClaim(claims[i][0], claims[i][1])
	}
	rnd.Shuffle(len(claims), func(i, j int) { claims[i], claims[j] = claims[j], claims[i] })
	for _, c := range claims {
		sum.AddClaim(c[0], c[1])
	}
	if sum != (Sum{}) {
		t.Errorf("seed %d: got %v, want nothing", seed, sum)
	}
	sum.AddClaim(5, 5)
	sum.AddClaim(5, 5)
	if sum.Count != 2 || sum.Sum == 0 {
		t.Errorf("a claim counted twice does not show: %v", sum)
	}
}
