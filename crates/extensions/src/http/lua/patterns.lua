-- `string.find`, `match`, `gmatch` and `gsub` that can't take for ever.
--
-- LuaJIT's own can't be interrupted, and take time that grows with the length of the text to the power of the number of
-- repetitions in the pattern. They are used where that is little; otherwise `scan` does the work, which counts its steps.
local scan, string = ...

local error, type, tostring, tonumber, select = error, type, tostring, tonumber, select
local find, match, gmatch, gsub, sub, byte = string.find, string.match, string.gmatch, string.gsub, string.sub, string.byte
local concat, floor = table.concat, math.floor

-- Steps that need not be counted: about 4 ms.
local FREE = 2e6
-- A longer text has its replacements made by Lua functions only, which can be interrupted.
local SHORT = 1000
-- The longest text for which a pattern is cheap, by pattern.
local longest, known = {}, 0

local function longest_for(pattern)
  local _, repetitions = gsub(pattern, "[*+?-]", "")
  local _, balanced = gsub(pattern, "%%b", "")
  local limit = floor((FREE / (1 + #pattern)) ^ (1 / (repetitions + balanced + 1)))
  if known >= 1000 then
    longest, known = {}, 0
  end
  longest[pattern], known = limit, known + 1
  return limit
end

-- Texts and patterns of the wrong type are left to LuaJIT, which says so.
local function is_cheap(text, pattern)
  local kind, pattern_kind = type(text), type(pattern)
  if kind == "number" then
    text = tostring(text)
  elseif kind ~= "string" then
    return true
  end
  if pattern_kind == "number" then
    pattern = tostring(pattern)
  elseif pattern_kind ~= "string" then
    return true
  end
  return #text <= (longest[pattern] or longest_for(pattern))
end

local function checked(first, ...)
  if first == false then
    error((...), 3)
  end
  return first, ...
end

local function pass(...)
  return ...
end

local function captures_or_whole(text, first, last, ...)
  if first == nil then
    return nil
  elseif select("#", ...) > 0 then
    return ...
  end
  return sub(text, first, last)
end

function string.find(text, pattern, init, plain)
  if plain then
    -- Every place may have to be compared with the whole pattern.
    if type(text) ~= "string" or type(pattern) ~= "string" or #text * (1 + #pattern / 64) <= 2 * FREE then
      return find(text, pattern, init, true)
    end
    pattern = gsub(pattern, "[%^%$%(%)%%%.%[%]%*%+%-%?]", "%%%0")
  elseif is_cheap(text, pattern) then
    return find(text, pattern, init)
  end
  return pass(checked(scan(text, pattern, tonumber(init) or 1, true)))
end

function string.match(text, pattern, init)
  if is_cheap(text, pattern) then
    return match(text, pattern, init)
  end
  return captures_or_whole(text, checked(scan(text, pattern, tonumber(init) or 1, true)))
end

function string.gmatch(text, pattern)
  if is_cheap(text, pattern) then
    return gmatch(text, pattern)
  end
  local at = 1
  local function step(first, last, ...)
    if first == nil then
      at = nil
      return nil
    end
    at = last >= first and last + 1 or first + 1
    return captures_or_whole(text, first, last, ...)
  end
  return function()
    if at then
      return step(checked(scan(text, pattern, at, false)))
    end
  end
end

-- A replacement text with its `%0` to `%9` and `%%`.
local function expand(template, whole, ...)
  local values, count = { ... }, select("#", ...)
  return (gsub(template, "%%(.?)", function(what)
    local index = tonumber(what)
    if not index then
      return what
    elseif index == 0 or (index == 1 and count == 0) then
      return whole
    elseif index > count then
      error("invalid capture index", 0)
    end
    return tostring(values[index])
  end))
end

local function replacement(by, whole, ...)
  local kind, value = type(by), nil
  if kind == "string" then
    return expand(by, whole, ...)
  elseif kind == "table" then
    value = by[select("#", ...) > 0 and (...) or whole]
  elseif select("#", ...) > 0 then
    value = by(...)
  else
    value = by(whole)
  end
  if not value then
    return whole
  elseif type(value) ~= "string" and type(value) ~= "number" then
    error("invalid replacement value (a " .. type(value) .. ")", 4)
  end
  return value
end

function string.gsub(text, pattern, by, most)
  local kind = type(by)
  if #tostring(text) > SHORT then
    local given = by
    if kind == "table" then
      by, kind = function(key)
        return given[key]
      end, "function"
    elseif kind == "function" then
      by = function(...)
        return given(...)
      end
    end
  end
  if is_cheap(text, pattern) or (kind ~= "string" and kind ~= "number" and kind ~= "table" and kind ~= "function") then
    return gsub(text, pattern, by, most)
  end
  if kind == "number" then
    by = tostring(by)
  end
  local out, size, at, count = {}, 0, 1, 0
  local anchored = byte(pattern) == 94
  local function put(piece)
    size = size + 1
    out[size] = piece
  end
  local function replace(first, last, ...)
    if first == nil then
      return false
    end
    put(sub(text, at, first - 1))
    put(replacement(by, sub(text, first, last), ...))
    if last < first then
      put(sub(text, first, first))
      last = first
    end
    at, count = last + 1, count + 1
    return not anchored and at <= #text + 1
  end
  while count < (most or count + 1) and replace(checked(scan(text, pattern, at, true))) do end
  put(sub(text, at))
  return concat(out), count
end
