// Package browser has no code but tests: of the web page, in a real Chromium.
package browser
