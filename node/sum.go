package node

import "github.com/trackerpool/trackerpool/ring"

// A Sum tells whether two sets of claims are the same, but for a chance of
// 2^-64: how many there are, and the sum of their elements modulo 2^64. (A sum,
// not xor, so that a claim counted twice shows.) The zero Sum is of no claims.
type Sum struct {
	Count, Sum uint64
}

// Add makes s the sum of its claims and o's.
func (s *Sum) Add(o Sum) { s.Count += o.Count; s.Sum += o.Sum }

// Sub takes o's claims from s. Both fields wrap around, so that the order of Add
// and Sub does not matter.
func (s *Sum) Sub(o Sum) { s.Count -= o.Count; s.Sum -= o.Sum }

// AddClaim adds the claim of a node with the given Key.Hash and generation.
func (s *Sum) AddClaim(hash, generation uint64) { s.Add(Sum{1, ElementOf(hash, generation)}) }

// SubClaim takes that claim from s.
func (s *Sum) SubClaim(hash, generation uint64) { s.Sub(Sum{1, ElementOf(hash, generation)}) }

// ElementOf returns what the claim of a node adds to Sum.Sum: the finaliser of
// splitmix64 over hash, which is Key.Hash, plus generation times the golden
// ratio. It is part of the wire contract.
func ElementOf(hash, generation uint64) uint64 {
	return mix64(hash + generation*0x9e3779b97f4a7c15)
}

// mix64 is the finaliser of splitmix64 (Steele, Lea and Flood 2014), a bijection.
func mix64(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// A ShardSum is the sum of the claims of one shard.
type ShardSum struct {
	Shard ring.Shard
	Sum   Sum
}
