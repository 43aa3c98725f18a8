package providers

import "bytes"

// chunk is one entry's text, cut from a file.
type chunk struct {
	name string
	line int // of its first line, from 1
	text []byte
}

// split cuts a catalogue at its top-level keys without parsing it, which takes a hundredth of the time. It knows one form:
// every line in the first column is empty, a comment, or a plain key followed by a colon and at most a comment. ok is false
// for any other file; that one has to be parsed whole.
func split(data []byte) (chunks []chunk, ok bool) {
	start := 0 // of the open chunk
	for line, at := 1, 0; at < len(data); line++ {
		end := len(data)
		if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		switch c := data[at]; {
		case c == ' ' || c == '#' || c == '\n' || c == '\r':
			if len(chunks) == 0 && c == ' ' && len(bytes.TrimSpace(data[at:end])) > 0 {
				return nil, false
			}
		default:
			name, isKey := topLevelKey(data[at:end])
			if !isKey {
				return nil, false
			}
			if n := len(chunks); n > 0 {
				chunks[n-1].text = data[start:at]
			}
			chunks, start = append(chunks, chunk{name: name, line: line}), at
		}
		at = end
	}
	if n := len(chunks); n > 0 {
		chunks[n-1].text = data[start:]
	}
	return chunks, true
}

// topLevelKey reads a line such as "google-drive: # a comment".
func topLevelKey(line []byte) (string, bool) {
	i := 0
	for i < len(line) && nameByte(line[i]) {
		i++
	}
	if i == 0 || i == len(line) || line[i] != ':' {
		return "", false
	}
	rest := line[i+1:]
	if trimmed := bytes.TrimSpace(rest); len(trimmed) > 0 && (trimmed[0] != '#' || rest[0] != ' ') {
		return "", false
	}
	return string(line[:i]), true
}

// validName reports whether s has the form of a provider's name.
func validName(s string) bool {
	for i := range len(s) {
		if !nameByte(s[i]) {
			return false
		}
	}
	return s != "" && len(s) <= 100
}

func nameByte(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' }
