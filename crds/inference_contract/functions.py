"""The Redis functions that runners call. Only the server's own processes may load them.

A runner has no right to run scripts, as a script blocks Redis until it ends. It calls these
functions by name, and each limits its own work. A function has the rights of its caller
(https://valkey.io/topics/functions-intro). It computes key names itself, so there is no cluster
mode."""

from __future__ import annotations

LIBRARY = "inference_1"
"""A changed meaning of a function or its arguments needs a new number: old runners keep running
during an upgrade."""
CLAIM = f"{LIBRARY}_claim"
RENEW = f"{LIBRARY}_renew"
SEND = f"{LIBRARY}_send"
FUNCTIONS = (CLAIM, RENEW, SEND)

MAX_JOBS = 1024
"""Jobs of one claim: as many as a batch may have."""
MAX_LEASES = 4096
"""Leases that one call renews."""
MAX_WORDS = 16_384
"""Arguments of one SEND: some milliseconds of Redis' time."""
MAX_COMMAND = 4096
"""Arguments of one command in a SEND: Lua's stack holds at most 8,000."""

CODE = f"""#!lua name={LIBRARY}

-- A whole number from `low` to `high`, or an error.
local function number(text, low, high)
  local found = tonumber(text)
  if not found or not (found >= low and found <= high) or found ~= math.floor(found) then
    error('a number from ' .. low .. ' to ' .. high .. ' was expected')
  end
  return found
end

-- queue, in-flight set, worker, how many, how many run already, time, lease in ms, execution.
-- Pops jobs. Whatever does not wait (gone, claimed) is dropped; that a job waits is told by a field
-- that a claim takes away, for a runner can write nothing into it. A job that runners died of runs
-- alone: not while others run, and nothing comes with it.
-- What is claimed stands in the worker too: an answer may be lost with its connection.
-- First all is read, then all is written: an error leaves the queue as it was. A call from Lua
-- costs more than most commands: what one call can do for all jobs, it does.
local function claim(_, args)
  local queue, in_flight, worker = args[1], args[2], args[3]
  local want, active = number(args[4], 1, {MAX_JOBS}), number(args[5], 0, 1e9)
  local iso, lease, execution = args[6], number(args[7], 1, 1e9) / 1000, args[8]
  local waiting, looks = {{}}, 0
  while #waiting < 2 * want and looks < want + {MAX_JOBS} do
    local id = redis.call('LINDEX', queue, looks)
    if not id then break end
    local job = redis.call('HMGET', 'rq:job:' .. id, 'waits', 'data', 'crashes')
    local is_suspect = job[1] and job[3]
    if is_suspect and #waiting + active > 0 then break end
    looks = looks + 1
    if job[1] then
      waiting[#waiting + 1] = id
      waiting[#waiting + 1] = job[2]
    end
    if is_suspect then break end
  end
  local out, held, leases = {{}}, {{}}, {{}}
  if looks > 0 then redis.call('LPOP', queue, looks) end
  if #waiting > 0 then
    local clock = redis.call('TIME')
    local lease_end = tonumber(clock[1]) + tonumber(clock[2]) / 1e6 + lease
    for i = 1, #waiting, 2 do
      local id = waiting[i]
      if redis.call('HDEL', 'rq:job:' .. id, 'waits') == 1 then -- not twice in the queue
        local run = string.format('%s%04x', execution, #held + 1)
        held[#held + 1] = id .. ':' .. run
        leases[#leases + 1] = lease_end
        leases[#leases + 1] = held[#held]
        out[#out + 1] = id
        out[#out + 1] = run
        out[#out + 1] = waiting[i + 1]
      end
    end
    redis.call('ZADD', in_flight, unpack(leases))
    redis.call('HSET', worker, 'state', 'busy', 'last_heartbeat', iso,
      'claimed', table.concat(held, ' '))
  end
  return out
end

-- in-flight set, lease in ms, then the leases that are renewed if they are still held: what has
-- ended meanwhile is not brought back.
local function renew(_, args)
  if #args > {MAX_LEASES} + 2 then error('more than {MAX_LEASES} leases') end
  local in_flight, lease = args[1], number(args[2], 1, 1e9) / 1000
  local clock = redis.call('TIME')
  local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
  local ttl = math.ceil(lease) + 60
  for i = 3, #args do
    local both = args[i]
    if redis.call('ZSCORE', in_flight, both) then
      redis.call('ZADD', in_flight, now + lease, both)
      if redis.call('EXPIRE', 'rq:execution:' .. both, ttl) == 1 then
        local id, run = string.match(both, '^(.*):(.*)$')
        redis.call('HSET', 'rq:execution:' .. both, 'last_heartbeat', string.format('%.6f', now))
        redis.call('ZADD', 'rq:executions:' .. id, now + lease + 60, run)
        redis.call('EXPIRE', 'rq:executions:' .. id, ttl)
      end
    end
  end
end

-- Commands, each as the number of its words and these, done without others in between. Returns the
-- errors of those that were refused. If memory is short, nothing is done.
local function send(_, args)
  if #args > {MAX_WORDS} then error('more than {MAX_WORDS} words') end
  local at, errors = 1, {{}}
  while at <= #args do
    local size = number(args[at], 1, {MAX_COMMAND})
    local reply = redis.pcall(unpack(args, at + 1, at + size))
    if type(reply) == 'table' and reply.err then errors[#errors + 1] = reply.err end
    at = at + size + 1
  end
  return errors
end

redis.register_function('{CLAIM}', claim)
redis.register_function{{function_name='{RENEW}', callback=renew, flags={{'allow-oom'}}}}
redis.register_function('{SEND}', send)
"""
LOAD = ("FUNCTION", "LOAD", "REPLACE", CODE)
"""Idempotent."""
