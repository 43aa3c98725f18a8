// Package nango speaks the HTTP API of Nango 0.71, so that its npm clients and people's curl lines work unmodified. It is
// a codec: it parses, makes one call to the broker and renders. It keeps nothing and decides nothing about who may do
// what. Where it differs from what it imitates, DIVERGENCES.md says so and why.
//
// Bodies, queries and path parameters are strict: what is not known is refused, with issues in the form of the
// validation library that the original uses, because callers read their codes and paths.
package nango
