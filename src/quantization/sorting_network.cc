#include "quantization/sorting_network.h"

#include <algorithm>
#include <ranges>

namespace torusml {
namespace {

using Places = std::vector<std::int64_t>;

Places every_second(const Places& places, std::size_t first) {
  Places result;
  for (std::size_t i = first; i < places.size(); i += 2) result.push_back(places[i]);
  return result;
}

// Of two lists in order.
Places merged(const Places& a, const Places& b, std::vector<Meeting>& meetings) {
  if (a.empty() || b.empty()) return a.empty() ? b : a;
  if (a.size() == 1 && b.size() == 1) {
    meetings.push_back({a[0], b[0]});
    return {a[0], b[0]};
  }
  const Places odd = merged(every_second(a, 0), every_second(b, 0), meetings);
  const Places even = merged(every_second(a, 1), every_second(b, 1), meetings);
  Places result{odd[0]};
  for (std::size_t i = 0; i < std::max(even.size(), odd.size() - 1); ++i) {
    if (i < even.size() && i + 1 < odd.size()) meetings.push_back({odd[i + 1], even[i]});
    if (i + 1 < odd.size()) result.push_back(odd[i + 1]);
    if (i < even.size()) result.push_back(even[i]);
  }
  return result;
}

Places first_between(std::int64_t begin, std::int64_t end, std::size_t count,
                     std::vector<Meeting>& meetings) {
  if (end - begin == 1) return {begin};
  const std::int64_t middle = begin + (end - begin + 1) / 2;
  Places result = merged(first_between(begin, middle, count, meetings),
                         first_between(middle, end, count, meetings), meetings);
  result.resize(std::min(count, result.size()));
  return result;
}

// Without those that no place of `order` hangs on.
std::vector<Meeting> needed(const std::vector<Meeting>& meetings, const Places& order,
                            std::int64_t elements) {
  std::vector<bool> is_needed(static_cast<std::size_t>(elements), false);
  const auto mark = [&](std::int64_t place) { is_needed[static_cast<std::size_t>(place)] = true; };
  std::ranges::for_each(order, mark);
  std::vector<Meeting> result;
  for (const Meeting& meeting : meetings | std::views::reverse) {
    const auto [first, second] = meeting;
    if (!is_needed[static_cast<std::size_t>(first)] && !is_needed[static_cast<std::size_t>(second)])
      continue;
    mark(first);
    mark(second);
    result.push_back(meeting);
  }
  std::ranges::reverse(result);
  return result;
}

}  // namespace

std::int64_t SortingNetwork::meetings() const {
  std::size_t count = 0;
  for (const std::vector<Meeting>& round : rounds) count += round.size();
  return static_cast<std::int64_t>(count);
}

SortingNetwork first_in_order(std::int64_t elements, std::int64_t count) {
  SortingNetwork network;
  std::vector<Meeting> meetings;
  network.order = first_between(0, elements, static_cast<std::size_t>(count), meetings);
  std::vector<std::size_t> rounds(static_cast<std::size_t>(elements), 0);  // of each place so far
  for (const Meeting& meeting : needed(meetings, network.order, elements)) {
    std::size_t& first = rounds[static_cast<std::size_t>(meeting.first)];
    std::size_t& second = rounds[static_cast<std::size_t>(meeting.second)];
    const std::size_t round = std::max(first, second);
    if (round == network.rounds.size()) network.rounds.emplace_back();
    network.rounds[round].push_back(meeting);
    first = second = round + 1;
  }
  return network;
}

}  // namespace torusml
