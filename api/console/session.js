// Who is signed in.  The key is kept in sessionStorage: it survives a reload, belongs to this tab alone, and is gone when
// the tab is closed.  A cookie would be sent by other pages' requests; localStorage would outlive the visit.

const NAME = "sluice.session";

let current = read();

function read() {
  try {
    return JSON.parse(sessionStorage.getItem(NAME));
  } catch {
    return null;
  }
}

// {key, keyId: of a login or null, user: UserInfo}
export function session() {
  return current;
}

export function keepSession(value) {
  current = value;
  sessionStorage.setItem(NAME, JSON.stringify(value));
}

export function forgetSession() {
  current = null;
  sessionStorage.removeItem(NAME);
}

export function hasPermission(name) {
  const permissions = current?.user.permissions ?? [];
  return permissions.includes("admin") || permissions.includes(name);
}

export function isAdmin() {
  return hasPermission("admin");
}

// Return whether the visitor came with the key of the settings, which belongs to no user.
export function isMaster() {
  return current?.user.id === 0;
}
