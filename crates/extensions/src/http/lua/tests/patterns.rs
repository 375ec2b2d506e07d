//! Both matchers of patterns, on what LuaJIT's own does quickly.

use super::super::budget::Budget;
use super::still;
use super::vm::guard_patterns;
use std::rc::Rc;

const TEXTS: &[&str] = &[
    "a",
    "aaa",
    "hello world",
    "  trim me\t ",
    "key=value; other = 12",
    "(a(b)c)(d",
    "x\0y",
    "THE (quick) fox",
    "a.b-c%d",
];

const PATTERNS: &[&str] = &[
    "",
    "a",
    "a*",
    "a-",
    "a+b?",
    "^a",
    "a$",
    "^%s*(.-)%s*$",
    "(%w+)%s*=%s*(%w+)",
    "%b()",
    "%f[%w]%w+",
    "[^%s]+",
    "()(%a)",
    "(%w)%1",
    "[a-c]",
    "[]]",
    "[%w_-]+",
    ".",
    "%.",
    "%z",
    "^",
    "$",
    "(l+)(o)",
    "%u%l*",
    "[%a-z]",
    "x*",
    "(()a)",
    "%x+",
    "%d",
    "a^",
    "[^%z]*",
    "[a-]",
    "%S+$",
    ".-",
    "(.-)%s",
    "^(%S+)%s+(%S+)",
    "%%",
    "%g",
    "%p+",
    "(a*(.)%w(%s*))",
];

/// Compares `own`, the library that counts, with `native`.
const COMPARE: &str = "
local native, s, p = ...
local function join(...)
  local t = {}
  for i = 1, select('#', ...) do t[i] = tostring((select(i, ...))) end
  return table.concat(t, ',')
end
local function all(gmatch)
  local t = {}
  for a, b in gmatch(s, p) do t[#t + 1] = join(a, b) end
  return table.concat(t, ';')
end
local replacements = {'<%0>', '<%1%%>', {a = 'A', b = false}, function(a) return a ~= 'b' and '[' .. a .. ']' or nil end, 7}
local function results(library)
  local t = {}
  for _, init in ipairs{1, 2, 3, -1, -3, -40, 40} do
    t[#t + 1] = join(library.find(s, p, init))
    t[#t + 1] = join(library.match(s, p, init))
  end
  t[#t + 1] = all(library.gmatch)
  for _, by in ipairs(replacements) do
    t[#t + 1] = join(library.gsub(s, p, by))
    t[#t + 1] = join(library.gsub(s, p, by, 2))
  end
  return t
end
local expected, found = results(native), results(string)
for i = 1, #expected do
  if expected[i] ~= found[i] then
    return ('%q with %q, result %d: %q instead of %q'):format(s, p, i, found[i], expected[i])
  end
end
return nil";

#[test]
fn patterns_mean_what_they_mean_in_luajit() {
    let lua = mlua::Lua::new();
    let native: mlua::Table =
        lua.load("local t = {} for k, v in pairs(string) do t[k] = v end return t").call(()).unwrap();
    let budget = Rc::new(Budget::new(still()));
    budget.fill();
    // No text is short enough for LuaJIT's own.
    let source = include_str!("../patterns.lua").replace("FREE = 2e6", "FREE = 0");
    guard_patterns(&lua, &budget, &source).unwrap();
    let compare = lua.load(COMPARE).into_function().unwrap();
    for text in TEXTS {
        for pattern in PATTERNS {
            budget.pattern_steps.set(1_000_000);
            let difference: Option<String> = compare.call((&native, *text, *pattern)).unwrap();
            assert_eq!(difference, None);
        }
    }
    assert!(budget.pattern_steps.get() < 1_000_000, "the matcher that counts was not used");
    for broken in ["%", "[a", "(a", "a)", "%b", "%f", "%1", "[%", "[^"] {
        let ok: bool = lua.load("return (pcall(string.find, 'aaaa', ...))").call(broken).unwrap();
        assert!(!ok, "{broken}");
    }
}
