-- The globals of a script. Every script has its own, made here: the functions and libraries of LuaJIT, less what would
-- reach beyond the script (see the module's documentation), and `require` with a search path and modules of its own.
local traceback, log_line, charge = ...

local error, type, pairs, next, rawget, pcall, select = error, type, pairs, next, rawget, pcall, select
local gsub, gmatch, format = string.gsub, string.gmatch, string.format
local load, loadfile, open, collect, concat = load, loadfile, io.open, collectgarbage, table.concat
local string, floor, tostring, print = string, math.floor, tostring, print
local sort, insert = table.sort, table.insert
local libraries = { bit = bit, coroutine = coroutine, math = math, table = table }
local default_path = package.path
local about_jit = { version = jit.version, version_num = jit.version_num, os = jit.os, arch = jit.arch }
local plain = {
  "assert", "error", "gcinfo", "getfenv", "getmetatable", "ipairs", "next", "pairs", "pcall", "rawequal",
  "rawget", "rawlen", "rawset", "select", "setfenv", "setmetatable", "tonumber", "tostring", "type", "unpack", "_VERSION",
}
local globals = {}
for _, name in next, plain do
  globals[name] = rawget(_G, name)
end

-- A finalizer could not be interrupted: no script may set one.
getmetatable(io.stdout).__metatable = "locked"
getmetatable("").__metatable = { __index = string }

-- What a script may compile at once, bytes: LuaJIT's parser can't be interrupted.
local MAX_CODE = 262144

-- Functions that are there in Lua but not here, and why.
local BLOCKS, FILES = "it would block the worker", "it would touch files and block the worker"
local removed = {
  os = {
    execute = BLOCKS, exit = "it would end the proxy", remove = FILES, rename = FILES, tmpname = FILES,
    setlocale = "it would change the whole process",
  },
  io = {
    close = FILES, flush = FILES, input = FILES, lines = FILES, open = FILES, output = FILES, popen = BLOCKS,
    read = BLOCKS, tmpfile = FILES, type = FILES, write = FILES,
  },
  file = {
    close = BLOCKS, flush = BLOCKS, lines = BLOCKS, read = BLOCKS, seek = BLOCKS, setvbuf = BLOCKS, write = BLOCKS,
  },
}
local kept_os = { clock = os.clock, date = os.date, difftime = os.difftime, getenv = os.getenv, time = os.time }

local function refuse(name, why)
  return function()
    error(name .. " is not available: " .. why, 2)
  end
end

local function refuse_all(into, library, prefix)
  for name, why in pairs(removed[library]) do
    into[name] = refuse(prefix .. name, why)
  end
  return into
end

-- LuaJIT's own can't be interrupted unless it calls a Lua function.
local function sorted(list, before)
  if before == nil then
    return sort(list, function(a, b)
      return a < b
    end)
  elseif type(before) ~= "function" then
    return sort(list, before)
  end
  return sort(list, function(a, b)
    return before(a, b)
  end)
end

-- LuaJIT's own moves everything from the position on, even if that is where no list begins.
local function inserted(list, at, ...)
  if select("#", ...) == 0 then
    return insert(list, at)
  elseif type(at) == "number" and at < 0 then
    error("bad argument #2 to 'insert' (position out of bounds)", 2)
  end
  return insert(list, at, ...)
end

function globals.print(...)
  local texts, bytes = { ... }, 0
  for i = 1, select("#", ...) do
    texts[i] = tostring(texts[i])
    bytes = bytes + #texts[i]
  end
  local failed = log_line(bytes)
  if failed then
    error(failed, 2)
  end
  print(concat(texts, "\t"))
end

local function copy(from)
  local to = {}
  for key, value in pairs(from) do
    to[key] = value
  end
  return to
end

local function nothing() end

local function handled(handler, ok, ...)
  if ok then
    return true, ...
  end
  return false, select(2, pcall(handler, ...))
end

-- LuaJIT runs the handler where the error is raised. If that is where the script is interrupted, nothing interrupts the
-- handler: so it runs here after the stack was left.
function globals.xpcall(run, handler, ...)
  return handled(handler, pcall(run, ...))
end

-- The text that a function hands out piece by piece. LuaJIT's own way of reading it can't be interrupted twice.
local function pieces(reader)
  local read, size = {}, 0
  for piece in reader do
    if type(piece) ~= "string" then
      return nil, "reader function must return a string"
    elseif piece == "" then
      break
    end
    size = size + 1
    read[size] = piece
  end
  return concat(read)
end

local function find_module(name, path)
  local file = gsub(name, "%.", "/")
  local tried = ""
  for pattern in gmatch(path, "[^;]+") do
    local candidate = gsub(pattern, "%?", (gsub(file, "%%", "%%%%")))
    local handle = open(candidate)
    if handle then
      handle:close()
      return candidate
    end
    tried = tried .. "\n\tno file '" .. candidate .. "'"
  end
  return nil, tried
end

-- Text only: LuaJIT does not check bytecode.
local function compile(chunk, name, env)
  if type(chunk) == "string" then
    if #chunk > MAX_CODE then
      return nil, format("chunk has more than %d bytes", MAX_CODE)
    end
    charge(10 * #chunk)
  end
  return load(chunk, name, "t", env)
end

local function loaders(env)
  function env.load(chunk, name, _, into)
    if type(chunk) == "function" then
      local ok, text, failed = pcall(pieces, chunk)
      if not ok then
        return nil, text
      elseif not text then
        return nil, failed
      end
      chunk, name = text, name or "=(load)"
    end
    return compile(chunk, name, into or env)
  end
  function env.loadstring(chunk, name)
    if type(chunk) ~= "string" then
      error("bad argument #1 to 'loadstring' (string expected, got " .. type(chunk) .. ")", 2)
    end
    return compile(chunk, name, env)
  end
  env.loadfile, env.dofile = refuse("loadfile", FILES), refuse("dofile", FILES)
end

local function modules(env, path)
  local loaded, preload = copy(env), {}
  loaded._G = env
  local package = { path = path .. default_path, cpath = "", config = "/\n;\n?\n!\n-\n", loaded = loaded, preload = preload }
  env.package, loaded.package = package, package
  function env.require(name)
    if type(name) ~= "string" then
      error("bad argument #1 to 'require' (string expected, got " .. type(name) .. ")", 2)
    end
    local module = loaded[name]
    if module ~= nil then
      return module
    end
    local loader = preload[name]
    if not loader then
      local file, tried = find_module(name, package.path)
      if not file then
        error(format("module '%s' not found:\n\tno field package.preload['%s']%s", name, name, tried), 2)
      end
      local failed
      loader, failed = loadfile(file, "t", env)
      if not loader then
        error(format("error loading module '%s' from file '%s':\n\t%s", name, file, failed), 2)
      end
    end
    local result = loader(name)
    if result ~= nil then
      loaded[name] = result
    elseif loaded[name] == nil then
      loaded[name] = true
    end
    return loaded[name]
  end
end

-- `path`: patterns that go before the default ones, each with a semicolon behind it.
return function(path)
  local env = {}
  for name, library in pairs(libraries) do
    env[name] = copy(library)
  end
  env.table.sort, env.table.insert = sorted, inserted
  env.string = string
  env.os, env.io = refuse_all(copy(kept_os), "os", "os."), refuse_all({}, "io", "io.")
  for _, name in next, { "stdin", "stdout", "stderr" } do
    env.io[name] = refuse_all({}, "file", "io." .. name .. ":")
  end
  modules(env, path)
  for name, value in pairs(globals) do
    env[name] = value
  end
  env._G = env
  loaders(env)
  env.debug = { traceback = traceback }
  env.jit = copy(about_jit)
  env.jit.on, env.jit.off, env.jit.flush = nothing, nothing, nothing
  env.jit.status = function()
    return false
  end
  env.collectgarbage = function(what, argument)
    if what == nil or what == "collect" or what == "count" or what == "step" then
      -- A collection can't be interrupted.
      if what ~= "count" then
        charge(floor(10 * collect("count")))
      end
      return collect(what, argument)
    end
    return 0
  end
  env.package.loaded.debug, env.package.loaded.jit = env.debug, env.jit
  env.EnvoyTimestampResolution = { MILLISECOND = 0, MICROSECOND = 1 }
  return env
end
