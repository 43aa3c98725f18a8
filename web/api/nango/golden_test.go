package nango_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/coatcheck/coatcheck/web/api/apitest"
)

// goldenFiles are the promise of compatibility.
const goldenFiles = "testdata/*.txtar"

func TestGolden(t *testing.T) {
	files, err := filepath.Glob(goldenFiles)
	must(t, err)
	if len(files) < 10 {
		t.Fatalf("there are %d golden files", len(files))
	}
	apitest.Golden(t, goldenFiles, func(t *testing.T) *apitest.Site { return goldenSite(t).Site })
}

// cloud answers for the token service of a provider whose roles are assumed, and leaves the others to the doubles.
func cloud(w http.ResponseWriter, r *http.Request) bool {
	if r.URL.Host != "sts.cloud.test" {
		return false
	}
	const role = "arn:aws:sts::123456789012:assumed-role/reader/x"
	w.Header().Set("Content-Type", "text/xml")
	switch {
	case r.PostForm.Get("Action") == "GetCallerIdentity":
		_, _ = fmt.Fprintf(w, `<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>%s</Arn></GetCallerIdentityResult></GetCallerIdentityResponse>`, role)
	case r.PostForm.Get("RoleArn") != "arn:aws:iam::123456789012:role/reader":
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprint(w, `<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>`)
	default:
		_, _ = fmt.Fprintf(w, `<AssumeRoleResponse><AssumeRoleResult><AssumedRoleUser><Arn>%s</Arn></AssumedRoleUser><Credentials>
			<AccessKeyId>ASIASESSION00</AccessKeyId><SecretAccessKey>session-secret</SecretAccessKey><SessionToken>session-token</SessionToken>
			<Expiration>%s</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`, role, apitest.Start.Add(time.Hour).Format(time.RFC3339))
	}
	return true
}
