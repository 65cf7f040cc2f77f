// Which page has which name, and how the menu groups them.

import * as account from "./pages/account.js";
import * as adminKeys from "./pages/admin_keys.js";
import * as audit from "./pages/audit.js";
import * as batches from "./pages/batches.js";
import * as health from "./pages/health.js";
import * as jobs from "./pages/jobs.js";
import * as keys from "./pages/keys.js";
import * as logs from "./pages/logs.js";
import * as organizations from "./pages/organizations.js";
import * as playground from "./pages/playground.js";
import * as providers from "./pages/providers.js";
import * as roles from "./pages/roles.js";
import * as routers from "./pages/routers.js";
import * as usage from "./pages/usage.js";
import * as users from "./pages/users.js";
import * as webhooks from "./pages/webhooks.js";

export const PAGES = { playground, jobs, batches, logs, usage, webhooks, keys, account };
export const ADMIN_PAGES = { health, organizations, roles, users, "all-keys": adminKeys, routers, providers, audit };
