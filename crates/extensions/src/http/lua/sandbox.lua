-- The globals of a script. Every script has its own, made here: the functions and libraries of LuaJIT, less what would
-- reach beyond the script (see the module's documentation), and `require` with a search path and modules of its own.
local traceback = ...

local error, type, pairs, next, rawget, pcall, select = error, type, pairs, next, rawget, pcall, select
local gsub, gmatch, format = string.gsub, string.gmatch, string.format
local load, loadfile, open, collect, concat = load, loadfile, io.open, collectgarbage, table.concat
local libraries = {
  bit = bit, coroutine = coroutine, io = io, math = math, os = os, table = table,
}
local default_path = package.path
local about_jit = { version = jit.version, version_num = jit.version_num, os = jit.os, arch = jit.arch }
local plain = {
  "assert", "error", "gcinfo", "getfenv", "getmetatable", "ipairs", "next", "pairs", "pcall", "print", "rawequal",
  "rawget", "rawlen", "rawset", "select", "setfenv", "setmetatable", "tonumber", "tostring", "type", "unpack", "_VERSION",
}
local globals = {}
for _, name in next, plain do
  globals[name] = rawget(_G, name)
end

-- A finalizer could not be interrupted: no script may set one.
getmetatable(io.stdout).__metatable = "locked"
getmetatable("").__metatable = { __index = string }

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
    return load(chunk, name, "t", into or env)
  end
  function env.loadstring(chunk, name)
    if type(chunk) ~= "string" then
      error("bad argument #1 to 'loadstring' (string expected, got " .. type(chunk) .. ")", 2)
    end
    return load(chunk, name, "t", env)
  end
  function env.loadfile(file, _, into)
    return loadfile(file, "t", into or env)
  end
  function env.dofile(file)
    local chunk, failed = loadfile(file, "t", env)
    if not chunk then
      error(failed, 2)
    end
    return chunk()
  end
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
  env.string = string
  modules(env, path)
  for name, value in pairs(globals) do
    env[name] = value
  end
  env._G = env
  loaders(env)
  env.os.exit = function()
    error("os.exit() is not allowed: it would end the proxy", 2)
  end
  env.debug = { traceback = traceback }
  env.jit = copy(about_jit)
  env.jit.on, env.jit.off, env.jit.flush = nothing, nothing, nothing
  env.jit.status = function()
    return false
  end
  env.collectgarbage = function(what, argument)
    if what == nil or what == "collect" or what == "count" or what == "step" then
      return collect(what, argument)
    end
    return 0
  end
  env.package.loaded.debug, env.package.loaded.jit = env.debug, env.jit
  env.EnvoyTimestampResolution = { MILLISECOND = 0, MICROSECOND = 1 }
  return env
end
