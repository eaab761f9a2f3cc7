"""What Redis does for the cache: a script each to read, to write and to count, on the newer and the older hash."""

from __future__ import annotations

from typing import Final

# ARGV: newer hash, older hash, keys of 32 bytes each, most bytes of the answer. Returns per key 4 bytes of length
# (little-endian, 0: nothing) and the value, all in one string.
LOOK_UP: Final = """
local isos_cache = 'look up'
local wanted, out, left = {}, {}, tonumber(ARGV[4])
for at = 1, #ARGV[3], 32 do wanted[#wanted + 1] = string.sub(ARGV[3], at, at + 31) end
local function read(name, fields)
  local found = redis.pcall('HMGET', name, unpack(fields))
  return found.err and {} or found
end
local newer, absent, place = read(ARGV[1], wanted), {}, {}
for i = 1, #wanted do
  if not newer[i] then absent[#absent + 1] = wanted[i]; place[#place + 1] = i end
end
local older = #absent > 0 and read(ARGV[2], absent) or {}
for j = 1, #absent do newer[place[j]] = older[j] end
for i = 1, #wanted do
  local value = newer[i]
  if value and #value <= left then
    left = left - #value
    out[2 * i - 1], out[2 * i] = struct.pack('<I4', #value), value
  else
    out[2 * i - 1], out[2 * i] = '\\0\\0\\0\\0', ''
  end
end
return table.concat(out)
"""

# ARGV: newer hash, older hash, bytes of the newer one from which on it becomes the older one, seconds that both live,
# bytes that a value weighs more, then the values: key (32 bytes), length (4 bytes, little-endian), value.
# What somebody else put in the hashes' place is removed. Returns the bytes of the newer hash.
FILL: Final = """
local isos_cache = 'fill'
local newer, older = ARGV[1], ARGV[2]
for _, name in ipairs({newer, older}) do
  local kind = redis.call('TYPE', name).ok
  if kind ~= 'hash' and kind ~= 'none' then redis.call('UNLINK', name) end
end
local values, at, added = ARGV[6], 1, 0
while at <= #values do
  local length = struct.unpack('<I4', string.sub(values, at + 32, at + 35))
  local value = string.sub(values, at + 36, at + 35 + length)
  if redis.call('HSET', newer, string.sub(values, at, at + 31), value) == 1 then
    added = added + length + tonumber(ARGV[5])
  end
  at = at + 36 + length
end
local size = redis.pcall('HINCRBY', newer, 'bytes', added)
if type(size) ~= 'number' or size < 0 then
  redis.call('UNLINK', newer)
  return 0
end
if size >= tonumber(ARGV[3]) then
  redis.call('UNLINK', older)
  redis.call('RENAME', newer, older)
  size = 0
else
  redis.call('EXPIRE', newer, ARGV[4])
end
redis.call('EXPIRE', older, ARGV[4])
return size
"""

# ARGV: newer hash, older hash. Returns the number of answers and the bytes that both take. Beside its answers a hash
# holds the number of their bytes.
HELD: Final = """
local isos_cache = 'held'
local answers, bytes = 0, 0
for _, name in ipairs(ARGV) do
  if redis.call('TYPE', name).ok == 'hash' then
    answers = answers + redis.call('HLEN', name) - redis.call('HEXISTS', name, 'bytes')
    bytes = bytes + redis.call('MEMORY', 'USAGE', name)
  end
end
return {answers, bytes}
"""
