// Package webpage serves a tracker's page for people: the ring as a picture, the
// members, what happens, and why a node is answered as it is. It changes nothing.
package webpage
