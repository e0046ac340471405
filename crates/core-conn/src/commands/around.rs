//! What the server runs around a script, so that no reply has a shape that users chose.

/// What a script is put into.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    /// It is the script of a user.
    Whole,
    /// It returns what a command of the server's answered.
    Native,
    /// It returns a function that serves one of several callers.
    ForEach,
}

impl Form {
    /// The text that the server is given.
    pub(super) fn around(self, script: &str) -> String {
        // It begins on the first line, so that the lines of errors are its own.
        let main = format!("local function main() {script}\nend\n");
        match self {
            Self::Whole => {
                format!("{main}{RAISED}{WRAPPER}{TAMED}tame(reply, 1)\nreturn {{0, reply}}")
            }
            Self::Native => format!("{main}{RAISED}{WRAPPER}return {{0, reply}}"),
            Self::ForEach => format!("{EACH_LEAD}{main}{RAISED}{TAMED}{EACH_WRAPPER}"),
        }
    }
}

/// What is made of an error that a script raises, where it is raised: a text comes behind a 2, what a command inside met
/// behind a 1. `pcall` would look into the error with its metatable, of which nothing may run: what that raises reaches the
/// client library as it is.
const RAISED: &str = "\
local function raised(err)
  if type(err) ~= 'table' then return {2, tostring(err)} end
  local text = rawget(err, 'err')
  return {1, type(text) == 'string' and text or ''}
end
";

/// What comes behind a script, which is the function `main`: a number or a text is returned as it is, a list behind a 0,
/// and an error behind a 1 or a 2, so that it is taken neither for a message nor for an error of the server's own.
const WRAPPER: &str = "\
local done, reply = xpcall(main, raised)
if not done or type(reply) ~= 'table' then return reply end
local err = rawget(reply, 'err')
if type(err) == 'string' then return {1, err} end
";

/// Makes lists harmless that may hold errors, or lists within each other without end. An error reply with bytes
/// that are not UTF-8 gets lost in the client library's parser, and every later reply goes to the wrong caller. Servers
/// look into the fields `map` and `set` of a table too.
const TAMED: &str = "\
local function tame(list, depth)
  rawset(list, 'map', nil)
  rawset(list, 'set', nil)
  for n = 1, #list do
    local item = rawget(list, n)
    if type(item) == 'table' then
      local err = rawget(item, 'err')
      if type(err) == 'string' then
        rawset(list, n, {err = (string.gsub(err, '[^\\32-\\126]', '?'))})
      elseif depth == 128 then
        rawset(list, n, {err = 'TOODEEP lists lie too deep within each other'})
      else
        tame(item, depth + 1)
      end
    end
  end
end
";

/// What comes before a batch script, on its first line.
const EACH_LEAD: &str = "\
local COUNT, SHARED = tonumber(ARGV[1]), {} \
for n = 1, tonumber(ARGV[2]) do SHARED[n] = ARGV[2 + n] end ";

/// What comes behind a batch script, which is the function `main` and returns another one: that is called for each caller,
/// and each result, behind a 0, is what a script alone would return. After an error it goes on with the caller behind. What
/// callers have of their own is put aside before anything of the script runs, which could change the lists.
const EACH_WRAPPER: &str = "\
local count, behind = tonumber(ARGV[1]), 2 + tonumber(ARGV[2])
local keys, args = #KEYS / count, (#ARGV - behind) / count
local width, own = keys + args, {}
for n = 0, count - 1 do
  for m = 1, keys do own[n * width + m] = KEYS[n * keys + m] end
  for m = 1, args do own[n * width + keys + m] = ARGV[behind + n * args + m] end
end
local done, each = xpcall(main, raised)
if not done then return each end
if type(each) ~= 'function' then
  local err = type(each) == 'table' and rawget(each, 'err')
  return {1, type(err) == 'string' and err or 'NOFUNCTION a batch script returns a function'}
end
local results, n, type, unpack = {0}, 1, type, unpack
local function serve()
  while n <= count do
    local reply
    if width == 1 then reply = each(own[n])
    else reply = each(unpack(own, n * width - width + 1, n * width)) end
    if type(reply) == 'table' then
      local err = rawget(reply, 'err')
      if type(err) == 'string' then
        reply = {1, err}
      else
        tame(reply, 1)
        reply = {0, reply}
      end
    end
    results[n + 1] = reply or false
    n = n + 1
  end
end
while n <= count do
  local served, err = xpcall(serve, raised)
  if not served then
    results[n + 1] = err
    n = n + 1
  end
end
return results";
