// Package crypto keeps the broker's secrets at rest: it holds the data keys, seals and opens
// fields, and makes and checks the random strings that leave the process (states, API keys,
// session tokens, PKCE verifiers). It knows nothing of rows, requests or providers: it speaks
// bytes and strings, does no I/O but [LoadIdentityFile], and never logs.
//
// # The hierarchy
//
//	age identity       the operator's file, outside the database; never stored
//	  └─ data keys     256 random bits each, wrapped by age, kept in the keyring table
//	       ├─ seal     HKDF: XChaCha20-Poly1305 over each field, bound to its place
//	       └─ oldest   HKDF: MAC keys and cookie keys, a label each
//
// A sealed field is
//
//	version (1 byte, 1) ‖ key id (uint32, big endian) ‖ nonce (24 random bytes) ‖ ciphertext and tag
//
// which is [Overhead] bytes more than its plaintext. What is authenticated beside the ciphertext is
// the first five bytes and then the caller's associated data, made by [Bind]. Another algorithm is
// another version byte.
//
// # Decisions
//
// Fields are not sealed with age itself. An age file carries no associated data, so a ciphertext
// moved to another row would open there; anyone who knows the public recipient can make one; and
// opening a token of 1.5 kB costs a hundred microseconds and 150 kB of garbage where an AEAD takes
// one microsecond. So age works once per start, on the keyring.
//
// The same weakness of age, that it does not say who wrote a file, would let somebody who can write
// to the database, but holds no identity, add an active data key of their own and read whatever is
// sealed after that. So each wrapped key carries, for each identity, a tag made with that
// identity's private half ([WrappedKey.Check]). It stands in for the usual sealed canary: it proves
// at start that the key is the right one, and also that a holder of the identity made it.
//
// The sealing nonce is random. XChaCha20-Poly1305 has 192 bits of it, so a key needs no count of its
// uses, which AES-GCM with its 96 bits would.
package crypto
