package nango

import (
	"maps"
	"slices"
	"strings"

	"github.com/coatcheck/coatcheck/broker"
)

// Bounds of tags.
const (
	maxTags      = 10
	maxTagKey    = 64
	maxTagValue  = 255
	tagUserEmail = "end_user_email"
)

// tags checks a flat map of tags and gives it with keys in lower case. nil stays nil.
func (c *check) tags(in map[string]string, path ...string) map[string]string {
	if in == nil {
		return nil
	}
	if len(in) > maxTags {
		c.add(codeCustom, "There may be at most 10 tags", path...)
	}
	out := make(map[string]string, len(in))
	for _, key := range slices.Sorted(maps.Keys(in)) {
		here := append(slices.Clone(path), key)
		if len(key) > maxTagKey || !tagKeyForm().MatchString(key) {
			c.add(codeKey, "Invalid key: a tag key begins with a letter, then has a-z, A-Z, 0-9, _-./, 64 characters in all", here...)
		}
		lower := strings.ToLower(key)
		if _, twice := out[lower]; twice {
			c.add(codeCustom, "Two tag keys are equal in lower case", here...)
		}
		out[lower] = in[key]
		if lower == tagUserEmail {
			c.text(in[key], isEmail, here...)
		}
	}
	return out
}

// tags takes the tags of a body; nil: there are none.
func (o *object) tags() map[string]string {
	return o.check.tags(o.textMap("tags", atLeast(1), atMost(maxTagValue)), o.at("tags")...)
}

// endUser takes the end user and the organization of a body; nil: none is given. An organization alone means nothing.
func (o *object) endUser(required bool) *broker.EndUser {
	u := o.user(required)
	org := o.object("organization", false)
	if org == nil {
		return u
	}
	id, name := org.text("id", atMost(255)), org.maybe("display_name", atMost(255))
	org.done()
	if u != nil {
		u.OrganizationID, u.OrganizationName = id, deref(name)
	}
	return u
}

// user takes the end user of a body.
func (o *object) user(required bool) *broker.EndUser {
	in := o.object("end_user", required)
	if in == nil {
		return nil
	}
	u := &broker.EndUser{
		ID:          in.text("id", atLeast(1), atMost(255)),
		Email:       deref(in.maybe("email", isEmail...)),
		DisplayName: deref(in.maybe("display_name", atMost(255))),
		Tags:        in.check.tags(in.textMap("tags", atMost(maxTagValue)), in.at("tags")...),
	}
	in.done()
	return u
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// derivedTags are the tags that the deprecated end user and organization stand for. What does not fit a tag is cut or
// left out; the end user's own tags are left out as a whole when there would be too many or one is empty.
func derivedTags(u *broker.EndUser) map[string]string {
	out := make(map[string]string)
	if u == nil {
		return out
	}
	for _, t := range [][2]string{
		{"end_user_id", u.ID},
		{tagUserEmail, u.Email},
		{"end_user_display_name", u.DisplayName},
		{"organization_id", u.OrganizationID},
		{"organization_display_name", u.OrganizationName},
	} {
		if t[1] != "" {
			out[t[0]] = truncate(t[1], maxTagValue)
		}
	}
	all := maps.Clone(out)
	for _, key := range slices.Sorted(maps.Keys(u.Tags)) {
		if u.Tags[key] == "" {
			return out
		}
		if name := strings.ToLower(truncate(key, maxTagKey)); tagKeyForm().MatchString(name) {
			all[name] = truncate(u.Tags[key], maxTagValue)
		}
	}
	if len(all) > maxTags {
		return out
	}
	return all
}

// truncate cuts after n characters.
func truncate(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n])
	}
	return s
}

// merged lays tags over those that the end user stands for, and refuses more than fit.
func (o *object) merged(u *broker.EndUser, tags map[string]string) map[string]string {
	out := derivedTags(u)
	maps.Copy(out, tags)
	if len(out) > maxTags && len(tags) <= maxTags { // more in tags alone is an issue already
		o.add(codeCustom, "There may be at most 10 tags, together with those of the end user", o.at("tags")...)
	}
	return out
}

// webhookURL takes the address that replaces the environment's; nil: none is given, "": none replaces it.
func (o *object) webhookURL() *string { return o.maybe("webhook_url_override", isURL, atMost(2048)) }
