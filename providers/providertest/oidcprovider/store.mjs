// Where oidc-provider keeps what it issues: maps that end with the process. Nothing is evicted; the package itself
// refuses what is past its time.

// What a grant takes with it when it ends.
const tokens = new Set(['AccessToken', 'AuthorizationCode', 'RefreshToken']);

// memory gives the adapter of one server. A refresh token that is already replaced counts as unused for graceMS more
// milliseconds, as at providers that allow for an answer lost on its way; with 0, not at all.
export function memory(graceMS) {
  const grants = new Map(); // grant id -> functions that forget the tokens of this grant

  return class {
    constructor(model) {
      this.model = model;
      this.items = new Map();
    }

    async upsert(id, payload) {
      this.items.set(id, { payload });
      if (!tokens.has(this.model)) return;
      const forgets = grants.get(payload.grantId) ?? [];
      grants.set(payload.grantId, [...forgets, () => this.items.delete(id)]);
    }

    async find(id) {
      const item = this.items.get(id);
      if (!item) return undefined;
      if (item.consumed === undefined || this.repeatable(item)) return { ...item.payload };
      return { ...item.payload, consumed: Math.floor(item.consumed / 1000) };
    }

    repeatable(item) {
      return this.model === 'RefreshToken' && Date.now() < item.consumed + graceMS;
    }

    async findByUid(uid) {
      const found = [...this.items.values()].find((item) => item.payload.uid === uid);
      return found && { ...found.payload };
    }

    async consume(id) {
      this.items.get(id).consumed ??= Date.now(); // the grace runs from the first use
    }

    async destroy(id) {
      this.items.delete(id);
    }

    async revokeByGrantId(grantId) {
      for (const forget of grants.get(grantId) ?? []) forget();
      grants.delete(grantId);
    }
  };
}
