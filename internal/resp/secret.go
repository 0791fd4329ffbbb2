package resp

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Secret is what AUTH needs: empty (no AUTH), "password" or "user:password".
// Whatever prints, logs or marshals it gets "***"; string(s) is the text.
type Secret string

const masked = "***"

// String is "***", or empty when there is no secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return masked
}

// Format prints String under every verb: without it a wrong verb such as %d
// would print the text.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue is String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText is String: a secret never reaches a file by being marshalled.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// scrub removes the secret and its password from what a server answered: Redis 7
// quotes the arguments of a command that it does not know, and AUTH may have
// been renamed.
func (s Secret) scrub(text string) string {
	parts := []string{string(s)}
	if _, pass, ok := strings.Cut(string(s), ":"); ok {
		parts = append(parts, pass)
	}
	for _, p := range parts {
		if len(p) > 0 {
			text = strings.ReplaceAll(text, "'"+p+"'", "'"+masked+"'")
		}
		if len(p) > 3 {
			text = strings.ReplaceAll(text, p, masked)
		}
	}
	return text
}
