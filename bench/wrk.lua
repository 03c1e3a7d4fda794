-- The requests of a file, parted by NUL, in turn; and at the end one JSON object, as load_client.py prints it.
local requests, turn = {}, 0

function init(args)
  local file = assert(io.open(args[1], "rb"))
  for text in (file:read("*a") .. "\0"):gmatch("(.-)%z") do
    requests[#requests + 1] = text
  end
  file:close()
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format('{"answers": %d, "seconds": %f, "bad": %d, "median_ms": %f, "late_ms": %f}', summary.requests,
    summary.duration / 1e6, errors.status + errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
