// What a page of the Connect UI does inside an app's page. It talks to that page by the messages of the Nango client, and
// to the server about everything that matters.
(() => {
  "use strict";

  const body = document.body;
  const dialog = document.querySelector("[role=dialog]");
  const leave = document.querySelector("[data-leave]");
  const form = document.querySelector("form[method=post]");
  const boot = document.querySelector("[data-boot]");
  const away = document.querySelector("[data-away]");
  const around = window.parent === window ? null : window.parent;
  const LOCAL = /^https?:\/\/(localhost|[a-z0-9.-]+\.localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/;

  // Who is told what happens here: the one page that gave the token or, before there is a token, all that might.
  let listeners = body.dataset.parent ? [body.dataset.parent] : [];
  const tell = (message) => {
    if (around) {
      listeners.forEach((origin) => around.postMessage(message, origin));
    }
  };

  // The page around, as far as the browser tells us.
  const parentOrigin = () => {
    try {
      return (window.location.ancestorOrigins || [])[0] || new URL(document.referrer).origin;
    } catch {
      return "";
    }
  };

  // Without a token: ask the page around for it, and go on with it.
  if (boot) {
    const local = boot.dataset.anyLocal === "true";
    const allowed = JSON.parse(boot.dataset.origins);
    listeners = local && LOCAL.test(parentOrigin()) ? [...allowed, parentOrigin()] : allowed;
    const trouble = (name) => {
      boot.querySelector("[data-waiting]").hidden = true;
      boot.querySelector("[data-trouble=" + name + "]").hidden = false;
    };
    const late = window.setTimeout(() => trouble("late"), 10_000);
    window.addEventListener("message", (event) => {
      const { type, sessionToken } = event.data || {};
      const known = allowed.includes(event.origin) || (local && LOCAL.test(event.origin));
      if (!around || event.source !== around || !known || type !== "session_token" || typeof sessionToken !== "string") {
        return;
      }
      window.clearTimeout(late);
      const next = new URL(boot.dataset.boot, window.location.href);
      next.searchParams.set("parent", event.origin);
      next.searchParams.set("session_token", sessionToken);
      window.location.replace(next);
    });
    if (!around) {
      window.clearTimeout(late);
      trouble("alone");
    }
    tell({ type: "ready" });
  }
  if (body.dataset.tell) {
    tell(JSON.parse(body.dataset.tell));
  }

  // Closing. What was typed is not thrown away without asking.
  const typed = () =>
    form && [...form.elements].some((field) =>
      field.type === "select-one"
        ? [...field.options].some((option) => option.selected !== option.defaultSelected && (option.value || field.value))
        : field.type !== "hidden" && field.defaultValue !== undefined && field.value !== field.defaultValue);
  const close = () => tell({ type: "close" });
  const main = document.querySelector("main");
  let before = null;
  const ask = (open) => {
    leave.hidden = !open;
    main.inert = open;
    if (open) {
      before = document.activeElement;
      leave.querySelector("[data-stay]").focus();
    } else {
      (before || dialog).focus();
    }
  };
  const dismiss = () => {
    if (!leave.hidden) {
      ask(false);
    } else if (typed() && (!away || away.hidden)) {
      ask(true);
    } else {
      close();
    }
  };
  document.querySelectorAll("[data-dismiss]").forEach((element) => element.addEventListener("click", dismiss));
  leave.querySelector("[data-stay]").addEventListener("click", () => ask(false));
  leave.querySelector("[data-go]").addEventListener("click", close);

  // The keyboard stays inside.
  const FOCUSABLE = "a[href], button, input:not([type=hidden]), select, textarea, summary";
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      event.preventDefault();
      dismiss();
    }
    if (event.key !== "Tab") {
      return;
    }
    const inside = leave.hidden ? dialog : leave;
    const stops = [...inside.querySelectorAll(FOCUSABLE)].filter((e) => !e.disabled && e.getClientRects().length > 0);
    const edge = event.shiftKey ? stops[0] : stops[stops.length - 1];
    const here = document.activeElement;
    if (!inside.contains(here) || here === edge || (here === dialog && event.shiftKey)) {
      event.preventDefault();
      (event.shiftKey ? stops[stops.length - 1] : stops[0]).focus();
    }
  });
  (document.querySelector("[autofocus]") || dialog).focus();

  // A sign-in goes on in a window of its own. Whether it is still there cannot be known for sure: a provider's page may
  // cut the tie to us. So how it went is asked of the server, by a number that only we and it know.
  if (!away) {
    return;
  }
  const closedNote = away.querySelector("[data-was-closed]");
  const again = away.querySelector("[data-again]");
  const sayClosed = (closed) => {
    closedNote.hidden = !closed;
    away.querySelector("[data-hint]").hidden = closed;
    again.classList.toggle("quiet", !closed);
  };
  const blockedNote = form.querySelector("[data-was-blocked]");
  const NAME = "coatcheck";
  const LIFE = 10.5 * 60 * 1000; // a little longer than a sign-in may take
  const wakers = new Set();
  const wake = () => wakers.forEach((waker) => waker());
  const pause = (ms) => new Promise((done) => {
    const waker = () => {
      wakers.delete(waker);
      window.clearTimeout(timer);
      done();
    };
    const timer = window.setTimeout(waker, ms);
    wakers.add(waker);
  });
  const goOn = (attempt) => {
    const result = new URL(away.dataset.resultAt, window.location.href);
    result.searchParams.set("result", attempt);
    window.location.replace(result);
  };
  let latest = "";
  let popup = null;
  let noticed = false; // that it is closed
  let toldClosed = false;
  let leaving = false;

  const state = async (attempt) => {
    const address = new URL(away.dataset.away, window.location.href);
    address.searchParams.set("attempt", attempt);
    try {
      const answer = await fetch(address, { credentials: "omit", cache: "no-store", redirect: "error" });
      if (answer.status === 401) {
        return "over"; // so is the session, and its page says so
      }
      return answer.ok ? (await answer.json()).status : "unknown";
    } catch {
      return "unknown"; // the network may come back
    }
  };
  const follow = async (attempt) => {
    const end = Date.now() + LIFE;
    for (let wait = 1000; Date.now() < end && !leaving; wait = Math.min(wait * 1.1, 4000)) {
      await pause(wait);
      const gone = popup && popup.closed;
      const status = await state(attempt);
      // A success counts whenever it comes; a failure only if nothing newer was begun.
      if (status === "succeeded" || (status !== "open" && status !== "unknown" && attempt === latest)) {
        leaving = true;
        goOn(attempt);
        return;
      }
      if (status === "failed" || status === "over") {
        return;
      }
      if (gone && attempt === latest && body.dataset.watch && !away.hidden) {
        sayClosed(true);
        if (!toldClosed) {
          toldClosed = true;
          tell({ type: "error", payload: JSON.parse(away.dataset.closed) });
        }
      }
    }
  };

  const show = (waiting) => {
    form.hidden = waiting;
    away.hidden = !waiting;
    (waiting ? away : form.querySelector("button[type=submit]")).focus();
  };
  const openWindow = () => {
    const width = 520;
    const height = 680;
    const left = Math.max(0, (window.screen.availWidth - width) / 2);
    const top = Math.max(0, (window.screen.availHeight - height) / 2);
    return window.open("", NAME, "popup,width=" + width + ",height=" + height + ",left=" + left + ",top=" + top);
  };
  const number = () => [...crypto.getRandomValues(new Uint8Array(24))].map((b) => b.toString(16).padStart(2, "0")).join("");

  form.addEventListener("submit", (event) => {
    const blocked = !blockedNote.hidden;
    popup = blocked ? null : openWindow();
    noticed = false;
    if (!popup && !blocked) {
      event.preventDefault();
      blockedNote.hidden = false;
      show(false);
      tell({ type: "error", payload: JSON.parse(away.dataset.blocked) });
      return;
    }
    form.target = popup ? NAME : "_blank";
    latest = number();
    form.elements.attempt.value = latest;
    sayClosed(false);
    toldClosed = false;
    show(true);
    follow(latest);
  });
  again.addEventListener("click", () => form.requestSubmit());
  away.querySelector("[data-back]").addEventListener("click", () => show(false));

  // Both only mean that it is worth asking now.
  window.addEventListener("message", (event) => {
    if (event.origin === window.location.origin) {
      wake();
    }
  });
  window.setInterval(() => {
    if (popup && popup.closed && !noticed) {
      noticed = true;
      wake();
    }
  }, 500);
})();
