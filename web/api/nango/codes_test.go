package nango_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/coatcheck/coatcheck/web/api/apitest"
	"github.com/coatcheck/coatcheck/web/api/nango"
)

// codes is the contract's catalogue: the statuses that each code comes with.
var codes = map[string][]int{
	"invalid_json": {400}, "invalid_content_type": {415}, "forbidden": {403}, "too_many_request": {429},
	"missing_auth_header": {401}, "malformed_auth_header": {401}, "invalid_secret_key_format": {401}, "unknown_account": {401},
	"invalid_connect_session_token_format": {401}, "unknown_connect_session_token": {401},
	"invalid_query_params": {400}, "invalid_body": {400}, "invalid_uri_params": {400}, "invalid_headers": {400},
	"generic_error_support": {500}, "not_found": {404}, "unknown_provider_config": {400, 404}, "unknown_connection": {400, 404},
	"invalid_credentials": {400, 424, 500, 502}, "server_error": {400, 424, 500, 502}, "connection_refresh_backoff": {424},
	"connection_test_failed": {400}, "connection_validation_failed": {400}, "resource_capped": {400}, "plan_limit": {402},
	"base_url_override_disabled": {400}, "base_url_override_not_allowed": {400},
	"unsupported_provider": {400}, "unsupported_auth": {400}, "unknown_provider": {400}, "missing_api_url": {400}, "missing_provider": {400},
	"failed_to_get_connection": {400}, "invalid_certificate_or_key_format": {400}, "invalid_permissions": {403},
	"missing_provider_config": {400}, "missing_access_token": {400}, "missing_expires_at": {400}, "invalid_expires_at": {400},
	"missing_basic_username": {400}, "missing_api_key": {400}, "missing_app_id": {400}, "missing_installation_id": {400},
	"missing_account_id": {400}, "unknown_provider_template": {404}, "unhandled_missing_oauth_token": {500},
	"unhandled_missing_oauth_token_secret": {500}, "unhandled_unknown_oauth_type": {500}, "conflict": {409},
	"cannot_delete_prod_environment": {400}, "invalid_is_prod_flag": {400}, "multiple_webhook_signing_keys": {409}, "rotation_failed": {500},
	"feature_disabled": {400, 404}, "unknown_environment": {404},
}

// Reasons that many codes share.
const (
	noPlans    = "there are no plans and no caps of plans"
	noSuchMode = "no integration of that mode can be made; TestFlatImportsInOtherModes has it"
	rotation   = "the signing key's rotation is tested with the webhooks"
)

// reasons say why no golden file has a code, or a status of one.
var reasons = map[string]string{
	"too_many_request 429":                     "TestRateLimitNamesTheRequest: no key has a limit unless one is configured",
	"generic_error_support 500":                "TestWords: nothing that can be sent makes the broker fail",
	"invalid_credentials 502":                  "there is no AWS_SIGV4",
	"server_error 502":                         "there is no AWS_SIGV4",
	"connection_validation_failed 400":         "there are no functions",
	"resource_capped 400":                      "TestAnEnvironmentHasFiftyKeys",
	"plan_limit 402":                           noPlans,
	"base_url_override_disabled 400":           "overrides are bound to the integration's hosts and so need no switch",
	"unsupported_provider 400":                 "TestCallersAreRefused of web/proxy: an entry without a base URL",
	"unsupported_auth 400":                     "an integration whose mode cannot be proxied cannot be made",
	"unknown_provider 400":                     "not_supported is the answer for a provider that left the catalogue",
	"missing_api_url 400":                      "every entry is checked when it is loaded",
	"missing_provider 400":                     "every integration has a provider",
	"failed_to_get_connection 400":             "a renewal that fails between two attempts is told as before the first",
	"invalid_certificate_or_key_format 400":    "TestCallsShowTheirConnectionsCertificate of web/proxy",
	"invalid_permissions 403":                  "unreachable in the original",
	"missing_app_id 400":                       noSuchMode,
	"missing_installation_id 400":              noSuchMode,
	"missing_account_id 400":                   noSuchMode,
	"unhandled_missing_oauth_token 500":        noSuchMode,
	"unhandled_missing_oauth_token_secret 500": noSuchMode,
	"unknown_provider_template 404":            "TestFlatImportOfAProviderThatLeft",
	"multiple_webhook_signing_keys 409":        rotation,
	"rotation_failed 500":                      rotation,
	"feature_disabled 400":                     "nothing can be switched off",
	"feature_disabled 404":                     "nothing can be switched off",
	"unknown_environment 404":                  "providers' webhooks are not taken in",
}

var codeOfAnswer = regexp.MustCompile(`(?m)^    "code": "([^"]+)"`)

// TestEveryCodeIsShown compares the catalogue with the golden files: what the contract has is shown in one of them with
// its status, or a reason is given; and what they show besides is not called by a name of the catalogue.
func TestEveryCodeIsShown(t *testing.T) {
	shown := make(map[string]bool)
	for _, x := range apitest.Exchanges(t, goldenFiles) {
		m := codeOfAnswer.FindStringSubmatch(x.Answer)
		if m == nil {
			continue
		}
		shown[m[1]+" "+strconv.Itoa(x.Status)] = true
		if statuses, ok := codes[m[1]]; ok && !slices.Contains(append(statuses, ours[m[1]]...), x.Status) {
			t.Errorf("%s: %s comes with %d", x.File, m[1], x.Status)
		}
	}
	for code, statuses := range codes {
		for _, status := range statuses {
			name := fmt.Sprintf("%s %d", code, status)
			_, excused := reasons[name]
			switch {
			case shown[name] && excused:
				t.Errorf("%s is shown and needs no reason", name)
			case !shown[name] && !excused:
				t.Errorf("no golden file shows %s, and no reason is given", name)
			}
		}
	}
	for name := range reasons {
		code, status, _ := strings.Cut(name, " ")
		if n, err := strconv.Atoi(status); err != nil || !slices.Contains(codes[code], n) {
			t.Errorf("there is a reason for %s, which the catalogue does not have", name)
		}
	}
}

// ours are statuses that only this server gives a code.
var ours = map[string][]int{"server_error": {503}}

// TestEveryRouteIsShown demands a golden request of each row that answers well, or as well as it ever does.
func TestEveryRouteIsShown(t *testing.T) {
	all := maps.Clone(samples)
	maps.Copy(all, inQuery)
	apitest.EveryRouteIsShown(t, goldenFiles, nango.Surface(newSite(t).Broker).Routes, all)
}
