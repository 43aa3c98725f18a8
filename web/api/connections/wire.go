package connections

import (
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// answer is the envelope of a success.
type answer[T any] struct {
	Success bool `json:"success"`
	Data    T    `json:"data"`
}

func success[T any](data T) answer[T] { return answer[T]{true, data} }

// page is the envelope of a list.
type page struct {
	Success bool               `json:"success"`
	Data    []listedConnection `json:"data"`
	Meta    pageMeta           `json:"meta"`
}

type pageMeta struct {
	HasMore bool `json:"hasMore"`
}

// listedConnection is a connection in a list.
type listedConnection struct {
	connectionHead
	connectionTail
}

// fullConnection is a connection alone.
type fullConnection struct {
	connectionHead
	Metadata jsontext.Value `json:"metadata"`
	connectionTail
}

type connectionHead struct {
	ID                string  `json:"id"`
	Name              string  `json:"name"`
	Provider          string  `json:"provider"`
	Status            string  `json:"status"`
	ExternalAccountID *string `json:"externalAccountId"`
	LastSyncedAt      *string `json:"lastSyncedAt"`
}

type connectionTail struct {
	CreatedAt    string `json:"createdAt"`
	UpdatedAt    string `json:"updatedAt"`
	ErrorMessage string `json:"errorMessage,omitzero"` // as long as there is something wrong
}

// authorization is where an end user goes to authorize a connection.
type authorization struct {
	ConnectionID string `json:"connectionId"`
	Provider     string `json:"provider"`
	AuthURL      string `json:"authUrl"`
	IsNew        bool   `json:"isNew"`
	Message      string `json:"message"`
}

// authorized is how an authorization ended well.
type authorized struct {
	ConnectionID string `json:"connectionId"`
	Provider     string `json:"provider"`
	Status       string `json:"status"`
	Message      string `json:"message"`
}

// createdConnection is a connection that was just made.
type createdConnection struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Provider string `json:"provider"`
	Status   string `json:"status"`
	OAuthURL string `json:"oauthUrl"`
	Message  string `json:"message"`
}

type deletedConnection struct {
	Deleted bool `json:"deleted"`
}

type refreshedConnection struct {
	ID           string  `json:"id"`
	LastSyncedAt *string `json:"lastSyncedAt"`
	Message      string  `json:"message"`
}

// health is what the provider says of a connection.
type health struct {
	healthHead
	ExternalAccountID *string `json:"externalAccountId"`
	healthTail
}

// pendingHealth is what can be said before anybody can be asked.
type pendingHealth struct {
	healthHead
	healthTail
}

type healthHead struct {
	Healthy      bool   `json:"healthy"`
	ConnectionID string `json:"connectionId"`
	Provider     string `json:"provider"`
	Status       string `json:"status"`
}

type healthTail struct {
	Error     *string `json:"error"`
	CheckedAt string  `json:"checkedAt"`
}

// stamp is how dates are written.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// stampOrNull is null for a time that has not come.
func stampOrNull(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := stamp(t)
	return &s
}

// orNull gives null for an absent text.
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
