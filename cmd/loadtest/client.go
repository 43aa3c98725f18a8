package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// patience bounds how long any one exchange may take: a side that hangs ends the run instead of stalling it.
const patience = time.Minute

// client is one kept-alive connection of the load generator. It knows as little of HTTP as the servers at the other end
// need, because the generator shares the processors with what it measures.
type client struct {
	conn net.Conn
	r    *bufio.Reader
}

func dial(ctx context.Context, addr string, readBuffer int) (*client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &client{conn, bufio.NewReaderSize(conn, readBuffer)}, nil
}

func (c *client) close() { _ = c.conn.Close() }

// do sends a request as it stands and reads the answer, whose body is dropped. Anything but 200 is an error: a fast
// refusal is no throughput.
func (c *client) do(request []byte) error {
	if _, err := c.conn.Write(request); err != nil {
		return err
	}
	return c.answer()
}

// answer reads one answer.
func (c *client) answer() error {
	status, length, err := c.head()
	if err != nil {
		return err
	}
	if status != 200 {
		body, _ := c.r.Peek(int(min(length, 300)))
		return fmt.Errorf("the answer was %d: %s", status, bytes.TrimSpace(body))
	}
	_, err = c.r.Discard(int(length))
	return err
}

// head reads up to the end of the headers.
func (c *client) head() (status int, length int64, err error) {
	first, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, 0, err
	}
	if len(first) < len("HTTP/1.1 200") || !bytes.HasPrefix(first, []byte("HTTP/1.1 ")) {
		return 0, 0, errors.New("the answer is not HTTP/1.1")
	}
	if status, err = strconv.Atoi(string(first[9:12])); err != nil {
		return 0, 0, err
	}
	length = -1
	for {
		field, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, 0, err
		}
		if field = bytes.TrimRight(field, "\r\n"); len(field) == 0 {
			break
		}
		const name = "content-length:"
		if len(field) > len(name) && (field[0]|0x20) == 'c' && bytes.EqualFold(field[:len(name)], []byte(name)) {
			if length, err = strconv.ParseInt(string(bytes.TrimSpace(field[len(name):])), 10, 64); err != nil {
				return 0, 0, err
			}
		}
	}
	if length < 0 {
		return 0, 0, errors.New("the answer has no Content-Length")
	}
	return status, length, nil
}

// header is a name and a value.
type header struct{ name, value string }

// request writes a request. A length below zero is a request without a body.
func request(method, path string, length int64, headers ...header) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: loadtest\r\nAccept: application/json\r\n", method, path)
	for _, h := range headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h.name, h.value)
	}
	if length >= 0 {
		fmt.Fprintf(&b, "Content-Type: application/octet-stream\r\nContent-Length: %d\r\n", length)
	}
	b.WriteString("\r\n")
	return b.Bytes()
}
