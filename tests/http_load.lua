-- For wrk: each of its threads sends exactly so many requests (the argument), and says when all are answered, and in the end what came back.
local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
end

function init(args)
  quota = tonumber(args[1])
  begun, greeted, numbers, wrong = 0, 0, 0, 0
end

-- Asked before each request, and only then (wrk calls request once more, to look at it).  Past the quota: wait for longer than wrk runs.
function delay()
  if begun >= quota then return 3600000 end
  begun = begun + 1
  return 0
end

function request()
  return wrk.format("GET", "/hello/wrk")
end

function response(status, headers, body)
  local number = body:match("^hello wrk, you are number (%d+)\n$")
  if status == 200 and number then
    greeted = greeted + 1
    numbers = numbers + tonumber(number)
  else
    wrong = wrong + 1
  end
  if greeted + wrong == quota then
    io.write("all answered\n")
    io.flush()
  end
end

function done(summary, latency, requests)
  local all = { greeted = 0, numbers = 0, wrong = 0 }
  for _, thread in ipairs(threads) do
    for name in pairs(all) do all[name] = all[name] + thread:get(name) end
  end
  local e = summary.errors
  print(string.format("greeted %d, numbers %.0f, wrong %d, requests %d, errors %d", all.greeted, all.numbers, all.wrong,
    summary.requests, e.connect + e.read + e.write + e.status + e.timeout))
end
