"""What must happen as a whole happens in a script; here they are, and how they are called.

The keys of a run share the hash tag of its id, so that a script finds them all on one node of a cluster:

    m  hash: token, last, state, cancel, beat, owner, thread, fingerprint, made
    s  stream: one entry per write, whose id is the number of its last record; also the name of the run's channel
    b  string: the block of a compacted run
    n  hash: by name, when a note is over in Unix milliseconds, a colon, and the note

A script looks first whether everything is as it nearly always is, and works out what is wrong only if it is not. The
reason is an error of two words, since Redis puts "ERR" before a single one; of many writes each has a number for it.
"""

import hashlib
from collections.abc import Sequence

__all__ = ["FENCED", "NO_RUN", "Script", "Scripts"]

#: -> when the run was made, in microseconds by the server's clock; of a run that exists: its token, fingerprint, owner.
#: What an earlier run may have left is removed, what is another application's is not. Not before the first write: a
#: server that has no memory left looks at that one only.
#: KEYS m s b n  ARGV token owner thread fingerprint live_ms
_CREATE = """
local run = redis.call('HMGET', KEYS[1], 'token', 'fingerprint', 'owner')
if run[1] then return run end
for place, kind in pairs({[2] = 'stream', [3] = 'string', [4] = 'hash'}) do
  local found = redis.call('TYPE', KEYS[place]).ok
  if found ~= 'none' and found ~= kind then return redis.error_reply('WRONGTYPE ' .. KEYS[place]) end
end
local now = redis.call('TIME')
local made = now[1] .. string.format('%06d', now[2])
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'last', '0', 'state', '0', 'beat', '0',
  'owner', ARGV[2], 'thread', ARGV[3], 'fingerprint', ARGV[4], 'made', made)
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return made
"""

#: Many writes at once, each of a run of its own. -> for each of them the cancel reason or nothing; with a time to live:
#: last, cancel, owner, thread, made; of a repeated write: last, cancel; of a refused one: the number that the log ends
#: at, which leaves a gap, or one of the numbers below 0. A stream that was evicted while its hash was not is begun
#: again by the producer, who is told of a gap.
#: KEYS m s …  ARGV token before last state payload live_ms …
_WRITE = """
local function write(m, s, token, before, last, state, payload, live_ms)
  local run = redis.call('HMGET', m, 'token', 'last', 'state', 'cancel')
  if run[1] == token and run[2] == before and run[3] == '0' then
    if last == before then
      redis.call('HINCRBY', m, 'beat', 1)
    else
      if before == '0' then
        redis.call('XADD', s, last .. '-0', 'd', payload)
      elseif not redis.call('XADD', s, 'NOMKSTREAM', last .. '-0', 'd', payload) then
        redis.call('HSET', m, 'last', '0')
        return 0
      end
      redis.call('HSET', m, 'last', last)
    end
    if state ~= '0' then redis.call('HSET', m, 'state', state) end
    if payload ~= '' then redis.call('PUBLISH', s, payload) end
    if live_ms == '0' then return run[4] end
    redis.call('PEXPIRE', m, live_ms)
    redis.call('PEXPIRE', s, live_ms)
    local place = redis.call('HMGET', m, 'owner', 'thread', 'made')
    return {last, run[4], place[1], place[2], place[3]}
  end
  if not run[1] then return -1 end
  if run[1] ~= token then return -2 end
  local has_records = last ~= before
  local is_stored = tonumber(last) <= tonumber(run[2])
  if has_records and is_stored and (state == '0' or state == run[3]) then return {run[2], run[4]} end
  if run[3] ~= '0' then return -2 end
  return tonumber(run[2])
end
local answers = {}
for n = 0, #KEYS / 2 - 1 do
  local k, a = n * 2, n * 6
  answers[n + 1] = write(KEYS[k + 1], KEYS[k + 2],
    ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4], ARGV[a + 5], ARGV[a + 6])
end
return answers
"""
#: The answers of `_WRITE` to a write of a run that is not there, and of one that is another's now.
NO_RUN, FENCED = -1, -2

#: -> 1, or 0 if the run is not as it was seen.  KEYS m s  ARGV token last beat new_last state payload retention_ms
_SEAL = """
local run = redis.call('HMGET', KEYS[1], 'token', 'last', 'beat', 'state')
if run[1] ~= ARGV[1] or run[2] ~= ARGV[2] or run[3] ~= ARGV[3] or run[4] ~= '0' then return 0 end
redis.call('XADD', KEYS[2], ARGV[4] .. '-0', 'd', ARGV[6])
redis.call('HSET', KEYS[1], 'token', 'sealed', 'last', ARGV[4], 'state', ARGV[5])
redis.call('PUBLISH', KEYS[2], ARGV[6])
redis.call('PEXPIRE', KEYS[1], ARGV[7])
redis.call('PEXPIRE', KEYS[2], ARGV[7])
return 1
"""

#: -> 1, or 0 if there is no final run.  KEYS m s b n  ARGV block
_COMPACT = """
local state = redis.call('HGET', KEYS[1], 'state')
local left_ms = redis.call('PTTL', KEYS[1])
if not state or state == '0' or left_ms <= 0 then return 0 end
redis.call('SET', KEYS[3], ARGV[1], 'PX', left_ms)
redis.call('DEL', KEYS[2])
return 1
"""

#: -> 1, or 0 if the run is final.  KEYS m s  ARGV reason
_CANCEL = """
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return redis.error_reply('NORUN run') end
if state ~= '0' then return 0 end
redis.call('HSETNX', KEYS[1], 'cancel', ARGV[1])
redis.call('PUBLISH', KEYS[2], '')
return 1
"""

#: -> owner, thread.  KEYS m s b n
_PURGE = """
local place = redis.call('HMGET', KEYS[1], 'owner', 'thread')
if redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4]) > 0 then redis.call('PUBLISH', KEYS[2], '') end
return place
"""

#: What both begin with: the time in Unix milliseconds.
_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

#: -> 1, or 0 if the run has that many notes.  KEYS m n  ARGV name note live_ms most
_PUT_NOTE = f"""{_NOW}
if not redis.call('HGET', KEYS[1], 'token') then return redis.error_reply('NORUN run') end
local kept = redis.call('HGETALL', KEYS[2])
local count = 0
for i = 1, #kept, 2 do
  local is_over = tonumber(string.match(kept[i + 1], '^%d+')) <= now
  if is_over then redis.call('HDEL', KEYS[2], kept[i]) else count = count + 1 end
end
if count >= tonumber(ARGV[4]) then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], string.format('%.0f', now + ARGV[3]) .. ':' .. ARGV[2])
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[2], ARGV[3]) end
return 1
"""

#: -> the note, or nothing.  KEYS m n  ARGV name
_TAKE_NOTE = f"""{_NOW}
local kept = redis.call('HGET', KEYS[2], ARGV[1])
if not kept then return false end
redis.call('HDEL', KEYS[2], ARGV[1])
local colon = string.find(kept, ':', 1, true)
if not redis.call('HGET', KEYS[1], 'token') then return false end
if tonumber(string.sub(kept, 1, colon - 1)) <= now then return false end
return string.sub(kept, colon + 1)
"""


class Script:
    """One script."""

    __slots__ = ("_head", "sha", "source")

    def __init__(self, source: str, keys: int) -> None:
        """Take its source and how many keys it takes."""
        self.source = source.encode()
        # The name Redis gives a script, not a matter of security.
        self.sha = hashlib.sha1(self.source, usedforsecurity=False).hexdigest().encode()
        self._head = (b"EVALSHA", self.sha, b"%d" % keys)

    def call(self, *arguments: bytes) -> tuple[bytes, ...]:
        """The command that runs it on these keys and arguments."""
        return self._head + arguments

    def call_for_each(self, keys: Sequence[bytes], arguments: Sequence[bytes]) -> tuple[bytes, ...]:
        """The command that runs it on the keys of many runs, and then their arguments, in the same order."""
        return (b"EVALSHA", self.sha, b"%d" % len(keys), *keys, *arguments)


class Scripts:
    """All scripts, publishing by `PUBLISH`, or in a cluster by `SPUBLISH`, which stays on the nodes of its slot."""

    def __init__(self, publish: str) -> None:
        """Prepare them for one of the two commands."""
        self.publish = publish.encode()

        def script(source: str, keys: int) -> Script:
            return Script(source.replace("'PUBLISH'", f"'{publish}'"), keys)

        self.create = script(_CREATE, 4)
        self.write = script(_WRITE, 2)
        self.seal = script(_SEAL, 2)
        self.compact = script(_COMPACT, 4)
        self.cancel = script(_CANCEL, 2)
        self.purge = script(_PURGE, 4)
        self.put_note = script(_PUT_NOTE, 2)
        self.take_note = script(_TAKE_NOTE, 2)
        runs = (self.create, self.write, self.seal, self.compact, self.cancel, self.purge)
        known = (*runs, self.put_note, self.take_note)
        self._sources = {script.sha: script.source for script in known}

    def with_source(self, command: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """The same call for a server that does not know the script yet; it does afterwards."""
        return (b"EVAL", self._sources[command[1]], *command[2:])
