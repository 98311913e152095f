// Package trackerctl is the command line of those who run a pool: it asks every
// tracker by the Operator service, puts the answers side by side, and says where they
// disagree. What can be computed from the members alone, it computes by package ring,
// as every client does.
//
// Each command makes a document: a plain value whose JSON is stable, and tables of it
// for people.
package trackerctl
