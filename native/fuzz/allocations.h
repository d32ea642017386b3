/* Allocations of the library under test that fail when told to. */
#pragma once

/* The n-th allocation from now on (0: the next) fails; -1: none does. True when one failed since the last call. */
bool fail_allocation_after(int n) noexcept;
