// Package devcerts makes an authority and certificates for development and tests, as
// files. Nobody renews or revokes them: for a pool that matters use a real issuer.
//
// No file is ever overwritten. An [Authority] is safe for concurrent use.
package devcerts
