# What the result of a demo promises; $env is the environment asked for.
(.steps | length > 5 and all(.name != "" and .seconds >= 0)) and
(.server.id | startswith("12D3KooW")) and
.environment.kind == $env and (.environment.why | length > 0) and
(.output | if $env == "linux" then startswith("Linux ") else contains("primes below") end) and
(.receipts | length > 0 and .[-1].final and all(.countersigned)) and
(.usage | .billed.source != "" and .second.source != "" and .billed.source != .second.source and
  ((.billed.cpu_ns - .second.cpu_ns) | fabs) <= 1000000 + .billed.cpu_ns / 1000) and
(.accounts | length > 5 and (map(.balance) | add) == 0) and
.sum == 0 and (keys == ["accounts", "environment", "output", "receipts", "server", "steps", "sum", "usage"])
