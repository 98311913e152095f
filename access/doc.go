// Package access decides who may do what: which identity a certificate gives, and
// what each identity may do.
//
// An identity is a role and a name:
//
//	tracker   speaks with trackers, as the member of its name alone
//	proxy     claims nodes, as the proxy of its name alone
//	reader    looks nodes up, watches them, and sees the view
//	operator  removes proxies and claims, drains trackers, sees all
//
// What a reader may do, all may. The package has no state and does no I/O; its
// values are safe for concurrent use.
package access
