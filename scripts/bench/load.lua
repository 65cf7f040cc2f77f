-- wrk script: send one fixed JSON body as fast as answers come back, and print the totals as one line of JSON.
-- An answer that lacks the expected text is an error.  Usage: wrk ... -s load.lua URL -- BODY_FILE EXPECTED METHOD; without EXPECTED, 304 is right, too

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method = args[3]
  wrk.headers["Content-Type"] = "application/json"
  wrk.body = file:read("*a")
  file:close()
  expected, wrong = args[2], 0
end

function response(status, _, body)
  local is_right = status < 300 or (status == 304 and expected == "")
  if not is_right or not string.find(body, expected, 1, true) then wrong = wrong + 1 end
end

function done(summary, latency, _)
  local errors, wrong_ones = summary.errors, 0
  for _, thread in ipairs(threads) do wrong_ones = wrong_ones + thread:get("wrong") end
  io.write(string.format(
    '{"requests":%d,"errors":%d,"seconds":%.6f,"p50_ms":%.4f,"p90_ms":%.4f,"p99_ms":%.4f}\n',
    summary.requests - wrong_ones,
    errors.connect + errors.read + errors.write + errors.timeout + wrong_ones,
    summary.duration / 1e6,
    latency:percentile(50) / 1e3,
    latency:percentile(90) / 1e3,
    latency:percentile(99) / 1e3))
end
