package providers

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/coatcheck/coatcheck/broker"
)

// awsKeys are what a request is signed with.
type awsKeys struct {
	id            string
	secret, token broker.Secret // no token: the key of an account
}

// awsSigner makes signatures of version 4.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
type awsSigner struct {
	signer          *v4.Signer
	keys            aws.Credentials
	service, region string
	now             func() time.Time
}

func newAWSSigner(now func() time.Time, service, region string, k *awsKeys) *awsSigner {
	return &awsSigner{
		signer: v4.NewSigner(func(o *v4.SignerOptions) {
			o.DisableURIPathEscaping = escapesOnce(service)
		}),
		keys:    aws.Credentials{AccessKeyID: k.id, SecretAccessKey: k.secret.Reveal(), SessionToken: k.token.Reveal()},
		service: service, region: region, now: now,
	}
}

// escapesOnce reports whether a service signs paths as they are sent. All others escape them once more. They are also
// those that take a body which is no part of the signature.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
func escapesOnce(service string) bool {
	return slices.Contains([]string{"s3", "s3express", "s3-object-lambda", "s3-outposts"}, service)
}

// The headers that a signature brings.
const (
	awsHash     = "X-Amz-Content-Sha256"
	awsDate     = "X-Amz-Date"
	awsUnsigned = "UNSIGNED-PAYLOAD"
)

// awsParams are the parameters of a signature in a query, which may not stand beside one in the headers.
var awsParams = []string{"x-amz-algorithm", "x-amz-credential", "x-amz-signature", "x-amz-signedheaders", "x-amz-date", "x-amz-expires", "x-amz-security-token"}

// sign sets the headers of a signature. It covers method, address, query, body, and those headers that say what the body is
// or are AWS's own; the others may change on their way. Errors: body_too_large, rate_limited, reserved_param,
// invalid_request.
func (s *awsSigner) sign(r *http.Request) error {
	if err := readableQuery(r); err != nil {
		return err
	}
	hash, err := s.payload(r)
	if err != nil {
		return err
	}
	// The library writes into what it signs, and what is shared must not be written to.
	copied := r.Clone(r.Context())
	copied.Header = http.Header{}
	for name, values := range r.Header {
		if strings.HasPrefix(name, "X-Amz-") || name == "Content-Type" || name == "Content-Md5" {
			copied.Header[name] = slices.Clone(values)
		}
	}
	copied.Header[awsHash] = []string{hash}
	if err := s.signer.SignHTTP(r.Context(), s.keys, copied, hash, s.service, s.region, s.now()); err != nil {
		return broker.ErrInternal.Because(err)
	}
	for _, name := range []string{"Authorization", awsDate, awsHash, awsToken} {
		if v, set := copied.Header[name]; set {
			r.Header[name] = v
		}
	}
	return nil
}

// readableQuery refuses a query that can be read in two ways, and writes spaces so that they cannot.
func readableQuery(r *http.Request) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return broker.ErrInvalidRequest.Saying("the request's parameters are not form-encoded, so that they cannot be signed")
	}
	for name := range query {
		if slices.Contains(awsParams, strings.ToLower(name)) {
			return broker.ErrReservedParam.On(name)
		}
	}
	r.URL.RawQuery = strings.ReplaceAll(r.URL.RawQuery, "+", "%20")
	return nil
}

// payload gives the body's hash. A body has to be read before the headers can be written, so one that is not kept is
// refused, unless the service takes it without; that is only as safe as the connection.
func (s *awsSigner) payload(r *http.Request) (string, error) {
	sum := sha256.New()
	switch {
	case r.Body == nil || r.Body == http.NoBody:
	case r.GetBody != nil && r.ContentLength >= 0 && r.ContentLength <= maxForm:
		body, err := r.GetBody()
		if err != nil {
			return "", err
		}
		defer func() { _ = body.Close() }()
		if _, err := io.Copy(sum, io.LimitReader(body, maxForm)); err != nil {
			return "", err
		}
	case escapesOnce(s.service) && r.URL.Scheme == "https":
		return awsUnsigned, nil
	case r.ContentLength < 0 || r.ContentLength > maxForm:
		return "", broker.ErrBodyTooLarge.Saying("a body that has to be signed needs a Content-Length of at most 1 MiB")
	default:
		return "", broker.ErrRateLimited.Saying("too many bodies are being kept at the moment").After(time.Second)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
