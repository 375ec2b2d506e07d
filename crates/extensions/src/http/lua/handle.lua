-- The objects that scripts are given: thin shells around the primitives in `p`, which do the work.
--
-- An object is a userdata without content. The functions here know which objects are valid: those that were made since
-- the running coroutine last waited. Everything else is "outside of proper scope". What goes wrong is raised as a string
-- with the position of the script's call, and what has to wait yields to the filter.
local p = ...

local error, type, tostring, tonumber, next, pcall = error, type, tostring, tonumber, next, pcall
local newproxy, getmetatable, setmetatable, format = newproxy, getmetatable, setmetatable, string.format
local yield = coroutine.yield

local OWN, TRAILERS, REQUEST = 0, 1, 2
local BODY, CHUNK = 0, 1
local NONE, THERE, WAIT = 0, 1, 2

-- The objects that are valid now.
local current, own_headers, trailers_object, request_headers, body_object, chunk_object
local live, any_live = {}, false
-- The maps that are being iterated over.
local iterating, any_iterating = {}, false

-- The coroutine of this handle runs from here on.
local function enter(handle)
  current = handle
  own_headers, trailers_object, request_headers, body_object, chunk_object = nil, nil, nil, nil, nil
  if any_live then
    live, any_live = {}, false
  end
  if any_iterating then
    iterating, any_iterating = {}, false
  end
end

-- The functions that raise errors say how far above them the script is.
local function dead()
  error("object used outside of proper scope", 3)
end

local function bad_argument(n, name, expected, value, level)
  error(format("bad argument #%d to '%s' (%s expected, got %s)", n, name, expected, type(value)), level)
end

local function text(value, n, name, level)
  if type(value) == "number" then
    return tostring(value)
  elseif type(value) ~= "string" then
    bad_argument(n, name, "string", value, level or 4)
  end
  return value
end

local function number(value, n, name, level)
  local converted = tonumber(value)
  if not converted then
    bad_argument(n, name, "number", value, level or 4)
  end
  return converted
end

local log = {}
for level, name in next, { "logTrace", "logDebug", "logInfo", "logWarn", "logErr", "logCritical" } do
  log[name] = function(_, message)
    local failed = p.log(level, text(message, 1, name))
    if failed then
      error(failed, 2)
    end
  end
end

local function class(methods, pairs_of)
  for name, method in next, log do
    methods[name] = method
  end
  local proxy = newproxy(true)
  local metatable = getmetatable(proxy)
  metatable.__index = methods
  metatable.__pairs = pairs_of
  metatable.__metatable = "locked"
  return proxy
end

local function object(proxy, data)
  local made = newproxy(proxy)
  live[made], any_live = data, true
  return made
end

local function begin_iteration(map)
  if iterating[map] then
    error("cannot create a second iterator before completing the first", 3)
  end
  iterating[map], any_iterating = true, true
end

-- Iterates over a table that stands for what `map` holds.
local function iterator(map, fields)
  local key
  return function()
    if not iterating[map] then
      dead()
    end
    local value
    key, value = next(fields, key)
    if key == nil then
      iterating[map] = nil
    end
    return key, value
  end
end

-- === Headers

local function which(map)
  if map == own_headers then
    return OWN
  elseif map == trailers_object then
    return TRAILERS
  elseif map == request_headers then
    return REQUEST
  end
end

local headers = {}

local function change(map, at, change_it, key, value)
  if iterating[map] then
    error("header map cannot be modified while iterating", 3)
  end
  local failed = change_it(at, key, value)
  if failed then
    error(failed, 3)
  end
end

function headers.add(self, key, value)
  local at = which(self)
  if not at or not self then dead() end
  change(self, at, p.header_add, text(key, 1, "add"), text(value, 2, "add"))
end

function headers.replace(self, key, value)
  local at = which(self)
  if not at or not self then dead() end
  change(self, at, p.header_replace, text(key, 1, "replace"), text(value, 2, "replace"))
end

function headers.remove(self, key)
  local at = which(self)
  if not at or not self then dead() end
  change(self, at, p.header_remove, text(key, 1, "remove"))
end

function headers.setHttp1ReasonPhrase(self, phrase)
  local at = which(self)
  if not at or not self then dead() end
  change(self, at, p.reason_phrase, text(phrase, 1, "setHttp1ReasonPhrase"))
end

-- What is not there is no value at all rather than nil, here and below: `tostring(headers:get("none"))` fails, as in Envoy.
function headers.get(self, key)
  local at = which(self)
  if not at or not self then dead() end
  local value = p.header_get(at, text(key, 1, "get"))
  if value then
    return value
  end
end

function headers.getAtIndex(self, key, index)
  local at = which(self)
  if not at or not self then dead() end
  local value = p.header_at(at, text(key, 1, "getAtIndex"), number(index, 2, "getAtIndex"))
  if value then
    return value
  end
end

function headers.getNumValues(self, key)
  local at = which(self)
  if not at or not self then dead() end
  local count = p.header_count(at, text(key, 1, "getNumValues"))
  return count
end

local headers_class = class(headers, function(self)
  local at = which(self)
  if not at or not self then dead() end
  begin_iteration(self)
  local index = 0
  return function()
    if not iterating[self] then
      dead()
    end
    local key, value = p.header_entry(at, index)
    index = index + 1
    if key == nil then
      iterating[self] = nil
    end
    return key, value
  end
end)

-- === Bodies

local buffer = {}

local function which_buffer(self)
  if self == body_object then
    return BODY
  elseif self == chunk_object then
    return CHUNK
  end
end

function buffer.length(self)
  local at = which_buffer(self)
  if not at or not self then dead() end
  local length = p.length(at)
  return length
end

function buffer.getBytes(self, index, length)
  local at = which_buffer(self)
  if not at or not self then dead() end
  local bytes = p.bytes(at, number(index, 1, "getBytes"), number(length, 2, "getBytes"))
  if not bytes then
    error("index/length must be >= 0 and (index + length) must be <= buffer size", 2)
  end
  return bytes
end

function buffer.setBytes(self, bytes)
  local at = which_buffer(self)
  if not at or not self then dead() end
  local length, failed = p.set_bytes(at, text(bytes, 1, "setBytes"))
  if failed then
    error(failed, 2)
  end
  return length
end

local buffer_class = class(buffer)

-- === Metadata

local metadata = {}

function metadata.get(self, key)
  local kind = live[self]
  if not kind then dead() end
  local value = p.metadata(kind, text(key, 1, "get"))
  if value ~= nil then
    return value
  end
end

local metadata_class = class(metadata, function(self)
  local kind = live[self]
  if not kind then dead() end
  begin_iteration(self)
  return iterator(self, p.metadata(kind))
end)

local dynamic = {}

function dynamic.get(self, namespace)
  local kind = live[self]
  if not kind then dead() end
  local value = p.dynamic_metadata(kind, text(namespace, 1, "get"))
  if value ~= nil then
    return value
  end
end

local function each_namespace(self)
  local kind = live[self]
  if not kind then dead() end
  begin_iteration(self)
  return iterator(self, p.dynamic_metadata(kind))
end

local connection_dynamic_class = class({ get = dynamic.get }, each_namespace)

function dynamic.set(self, namespace, key, value)
  if not live[self] then dead() end
  if iterating[self] then
    error("dynamic metadata map cannot be modified while iterating", 2)
  end
  local failed = p.set_dynamic_metadata(text(namespace, 1, "set"), text(key, 2, "set"), value)
  if failed then
    error(failed, 2)
  end
end

local dynamic_class = class(dynamic, each_namespace)

local filter_state = {}

function filter_state.get(self, name, field)
  if not live[self] then dead() end
  if field ~= nil then
    field = text(field, 2, "get")
  end
  local value = p.filter_state(text(name, 1, "get"), field)
  if value ~= nil then
    return value
  end
end

function filter_state.set(self, name, factory, value)
  if not live[self] then dead() end
  local failed = p.set_filter_state(text(name, 1, "set"), text(factory, 2, "set"), text(value, 3, "set"))
  if failed then
    error(failed, 2)
  end
end

local filter_state_class = class(filter_state)

-- === Stream, connection, route

local ssl = {}
for _, name in next, p.ssl_names do
  ssl[name] = function(self)
    if not live[self] then dead() end
    local value = p.ssl(name)
    return value
  end
end
local ssl_class = class(ssl)

local function ssl_of(self)
  if not live[self] then dead() end
  if p.ssl() then
    return object(ssl_class, true)
  end
  return nil
end

local function typed_metadata(self, name)
  if not live[self] then dead() end
  text(name, 1, "dynamicTypedMetadata")
end

local stream_info = { downstreamSslConnection = ssl_of, dynamicTypedMetadata = typed_metadata }
for _, name in next, p.info_names do
  stream_info[name] = function(self)
    if not live[self] then dead() end
    local value = p.info(name)
    return value
  end
end

function stream_info.dynamicMetadata(self)
  if not live[self] then dead() end
  return object(dynamic_class, "stream")
end

function stream_info.filterState(self)
  if not live[self] then dead() end
  return object(filter_state_class, true)
end

function stream_info.drainConnectionUponCompletion(self)
  if not live[self] then dead() end
  p.drain()
end

local stream_info_class = class(stream_info)

local connection_info_class = class({
  dynamicMetadata = function(self)
    if not live[self] then dead() end
    return object(connection_dynamic_class, "connection")
  end,
  dynamicTypedMetadata = typed_metadata,
})

local connection_class = class({ ssl = ssl_of })

local owner_class = class({
  metadata = function(self)
    local kind = live[self]
    if not kind then dead() end
    return object(metadata_class, kind)
  end,
})

-- === Statistics. These objects may be kept.

local stat_names = setmetatable({}, { __mode = "k" })

local function stat(proxy, name, kind)
  local made = newproxy(proxy)
  stat_names[made] = { kind, name }
  return made
end

local function stat_method(change_it, name, refused)
  return function(self, amount)
    local known = stat_names[self]
    if not known then dead() end
    if name then
      amount = number(amount, 1, name)
      if amount < 0 then
        error(refused, 2)
      end
    end
    local value, failed = p.stat(known[1], known[2], change_it, amount)
    if failed then
      error(failed, 2)
    end
    return value
  end
end

local counter_class = class({
  inc = stat_method("inc"),
  add = stat_method("add", "add", "counter add amount must be non-negative"),
  value = stat_method("value"),
})

local gauge_class = class({
  inc = stat_method("inc"),
  dec = stat_method("dec"),
  add = stat_method("add", "add", "gauge add amount must be non-negative"),
  sub = stat_method("sub", "sub", "gauge sub amount must be non-negative"),
  set = stat_method("set", "set", "gauge set value must be non-negative"),
  value = stat_method("value"),
})

local histogram_class = class({
  recordValue = stat_method("record", "recordValue", "histogram value must be non-negative"),
})

local stats_class = class({
  counter = function(self, name)
    if not live[self] then dead() end
    return stat(counter_class, text(name, 1, "counter"), "counter")
  end,
  gauge = function(self, name)
    if not live[self] then dead() end
    return stat(gauge_class, text(name, 1, "gauge"), "gauge")
  end,
  histogram = function(self, name, unit)
    if not live[self] then dead() end
    unit = unit == nil and "unspecified" or text(unit, 2, "histogram")
    local kind = p.histogram_units[unit]
    if not kind then
      error(format("invalid histogram unit '%s', expected 'ms', 'milliseconds', 'microseconds', 'nanoseconds', 'bytes', or 'unspecified'", unit), 2)
    end
    return stat(histogram_class, text(name, 1, "histogram"), kind)
  end,
})

-- === The stream handle

local handle = {}

function handle.headers(self)
  if self ~= current then dead() end
  if not own_headers then
    own_headers = newproxy(headers_class)
  end
  return own_headers
end

function handle.requestHeaders(self)
  if self ~= current then dead() end
  if p.is_request() then
    return handle.headers(self)
  end
  if not request_headers then
    request_headers = newproxy(headers_class)
  end
  return request_headers
end

function handle.body(self, always_wrap_body)
  if self ~= current then dead() end
  local state, failed = p.body(always_wrap_body and true or false)
  if failed then
    error(failed, 2)
  end
  if state == WAIT then
    yield()
    enter(self)
    state = p.body(always_wrap_body and true or false)
  end
  if state == THERE then
    if not body_object then
      body_object = newproxy(buffer_class)
    end
    return body_object
  end
end

function handle.bodyChunks(self)
  if self ~= current then dead() end
  local failed = p.chunks()
  if failed then
    error(failed, 2)
  end
  return function()
    if self ~= current then dead() end
    local state, refused = p.next_chunk()
    if refused then
      error(refused, 2)
    end
    if state == NONE then
      return nil
    end
    local there = yield()
    enter(self)
    if there then
      chunk_object = newproxy(buffer_class)
      return chunk_object
    end
  end
end

function handle.trailers(self)
  if self ~= current then dead() end
  local state, failed = p.trailers()
  if failed then
    error(failed, 2)
  end
  if state == WAIT then
    yield()
    enter(self)
    state = p.trailers()
  end
  if state == THERE then
    if not trailers_object then
      trailers_object = newproxy(headers_class)
    end
    return trailers_object
  end
end

-- The pairs of a table of headers, one after another: name, value, name, value.
local function flatten(fields, n, name)
  local flat, size = {}, 0
  local function put(key, value)
    flat[size + 1], flat[size + 2] = text(key, n, name, 6), text(value, n, name, 6)
    size = size + 2
  end
  for key, value in next, fields do
    if type(value) == "table" then
      for _, one in next, value do
        put(key, one)
      end
    else
      put(key, value)
    end
  end
  return flat
end

function handle.respond(self, fields, body)
  if self ~= current then dead() end
  local failed = p.may_respond()
  if failed then
    error(failed, 2)
  end
  if type(fields) ~= "table" then
    bad_argument(1, "respond", "table", fields, 3)
  end
  local flat = flatten(fields, 1, "respond")
  failed = p.respond(flat, body ~= nil and text(body, 2, "respond") or nil)
  if failed then
    error(failed, 2)
  end
  -- The script ends here.
  while true do
    yield()
  end
end

local call_options = {
  asynchronous = function(options, value)
    options.asynchronous = value and true or false
  end,
  timeout_ms = function(options, value)
    options.timeout = number(value, 4, "httpCall", 6)
  end,
  -- There are no spans yet that could be sampled.
  trace_sampled = function() end,
  return_duplicate_headers = function(options, value)
    options.duplicates = value and true or false
  end,
  send_xff = function(options, value)
    options.send_xff = value and true or false
  end,
}

local function options_of(timeout, asynchronous)
  local options = { timeout = 0, asynchronous = false, duplicates = false, send_xff = true }
  if type(timeout) ~= "table" then
    if asynchronous ~= nil and type(asynchronous) ~= "boolean" then
      error("http call asynchronous flag must be 'true', 'false', or empty", 3)
    end
    options.timeout, options.asynchronous = number(timeout, 4, "httpCall", 5), asynchronous or false
    return options
  end
  for key, value in next, timeout do
    local set = call_options[key]
    if not set then
      error(format('"%s" is not valid key for httpCall() options', tostring(key)), 3)
    end
    set(options, value)
  end
  return options
end

function handle.httpCall(self, cluster, fields, body, timeout, asynchronous)
  if self ~= current then dead() end
  local options = options_of(timeout, asynchronous)
  cluster = text(cluster, 1, "httpCall")
  if type(fields) ~= "table" then
    bad_argument(2, "httpCall", "table", fields, 3)
  end
  if body ~= nil then
    body = text(body, 3, "httpCall")
  end
  if options.timeout < 0 then
    error("http call timeout must be >= 0", 2)
  end
  local failed = p.call(cluster, flatten(fields, 2, "httpCall"), body, options)
  if failed then
    error(failed, 2)
  end
  if options.asynchronous then
    return
  end
  local response_headers, response_body = yield()
  enter(self)
  return response_headers, response_body
end

function handle.metadata(self)
  if self ~= current then dead() end
  return object(metadata_class, "filter")
end

function handle.filterContext(self)
  if self ~= current then dead() end
  return object(metadata_class, "context")
end

function handle.virtualHost(self)
  if self ~= current then dead() end
  return object(owner_class, "virtual_host")
end

function handle.route(self)
  if self ~= current then dead() end
  return object(owner_class, "filter")
end

function handle.streamInfo(self)
  if self ~= current then dead() end
  return object(stream_info_class, true)
end

function handle.connection(self)
  if self ~= current then dead() end
  return object(connection_class, true)
end

function handle.connectionStreamInfo(self)
  if self ~= current then dead() end
  return object(connection_info_class, true)
end

function handle.stats(self)
  if self ~= current then dead() end
  return object(stats_class, true)
end

function handle.clearRouteCache(self)
  if self ~= current then dead() end
  p.clear_route()
end

function handle.base64Escape(self, bytes)
  if self ~= current then dead() end
  local escaped = p.base64_encode(text(bytes, 1, "base64Escape"))
  return escaped
end

function handle.base64Decode(self, encoded)
  if self ~= current then dead() end
  local bytes = p.base64_decode(text(encoded, 1, "base64Decode"))
  return bytes
end

function handle.timestamp(self, resolution)
  if self ~= current then dead() end
  if resolution ~= nil and resolution ~= 0 then
    error("timestamp format must be MILLISECOND.", 2)
  end
  local milliseconds = p.time(1000)
  return milliseconds
end

function handle.timestampString(self, resolution)
  if self ~= current then dead() end
  if resolution ~= nil and resolution ~= 0 and resolution ~= 1 then
    error("timestamp format must be MILLISECOND or MICROSECOND.", 2)
  end
  return format("%.0f", p.time(resolution == 1 and 1000000 or 1000))
end

for _, name in next, { "importPublicKey", "verifySignature", "setUpstreamOverrideHost" } do
  handle[name] = function(self)
    if self ~= current then dead() end
    error(name .. "() is not supported", 2)
  end
end

local handle_class = class(handle)

-- The body of every coroutine: runs a script's function with a handle of its own.
-- What a script raises that is no text says nothing, as in Envoy. Userdata that is not locked is a failure from outside.
return function(run)
  local made = newproxy(handle_class)
  enter(made)
  local ok, failure = pcall(run, made)
  if ok then
    return
  end
  local kind = type(failure)
  if kind ~= "string" and (kind ~= "userdata" or getmetatable(failure) == "locked") then
    failure = "unspecified lua error"
  end
  error(failure, 0)
end
