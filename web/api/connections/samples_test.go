package connections_test

import "github.com/coatcheck/coatcheck/web/api/apitest"

var samples = map[string]apitest.Sample{}
