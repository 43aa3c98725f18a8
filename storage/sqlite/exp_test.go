package sqlite
import ("testing";"fmt";"syscall";"time";"runtime";"strconv";"os";"database/sql";"context")
func TestExp(t *testing.T) {
	if os.Getenv("EXP")=="" {t.Skip()}
	runtime.LockOSThread()
	cpu := func() time.Duration { var r syscall.Rusage; syscall.Getrusage(1, &r); return time.Duration(r.Utime.Nano() + r.Stime.Nano()) }
	d := seeded(t, 1000)
	db, _ := sql.Open("sqlite", dsn(d.Path(), true))
	defer db.Close()
	cn, _ := db.Conn(t.Context())
	st, err := cn.PrepareContext(context.Background(), `SELECT c.id, c.status, c.config, cr.version, cr.type, cr.access, cr.details, cr.obtained_at, cr.expires_at, cr.refresh_at
	FROM connections c JOIN credentials cr ON cr.connection_number = c.number
	WHERE c.integration_number = ? AND c.key = ?`)
	ok(t, err)
	for range 4 {
		a := cpu()
		for k := range 50000 { if _, err := d.Ticket(t.Context(), "integration", strconv.Itoa(k%1000)); err != nil { t.Fatal(err) } }
		b := cpu()
		for k := range 50000 {
	var id, status, kind string
	var config, access, details []byte
	var version int64
	var obtained, expires, refresh sql.NullInt64
	if err := st.QueryRowContext(context.Background(), 1, strconv.Itoa(k%1000)).
		Scan(&id, &status, &config, &version, &kind, &access, &details, &obtained, &expires, &refresh); err != nil { t.Fatal(err) }
		}
		c := cpu()
		fmt.Println("ticket", (b-a)/50000, "raw", (c-b)/50000, float64(c-b)/float64(b-a))
	}
}
