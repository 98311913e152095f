// Package report keeps what a comparison measured, and shows it: as JSON, as tables with
// medians and spread, and as bars in SVG.
package report
