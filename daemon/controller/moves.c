#include "daemon/controller/moves.h"

#include "base/time.h"

#define MOVING_MAX    4                        /* at a time */
#define ORDER_US      (20 * BASE_USEC_PER_SEC) /* an order that nobody carried out by then is void */
#define REST_FIRST_US (5 * BASE_USEC_PER_SEC)
#define REST_MAX_US   (600 * BASE_USEC_PER_SEC)
#define CALM_US       (900 * BASE_USEC_PER_SEC) /* after so long the next move is the first again */
#define AGAIN_US      (2 * BASE_USEC_PER_SEC)

static enum base_reason why(const struct move_question *question)
{
	if (!question->owner_may)
		return BASE_REASON_NODE_EXCLUDED;
	if (question->local_only && !question->owner_endpoint && question->target_endpoint)
		return BASE_REASON_NO_ENDPOINTS;
	if (question->preferred && question->target_weight > question->owner_weight &&
	    !(question->local_only && question->owner_endpoint && !question->target_endpoint))
		return BASE_REASON_REBALANCED;
	return question->rebalance && !question->local_only ? BASE_REASON_REBALANCED
							     : BASE_REASON_NONE;
}

static uint64_t rest_us(const struct move_history *history)
{
	uint64_t rest = REST_FIRST_US;

	for (unsigned i = 1; i < history->in_a_row && rest < REST_MAX_US; i++)
		rest *= 2;
	return rest < REST_MAX_US ? rest : REST_MAX_US;
}

struct move_answer move_decide(const struct move_question *question,
			       const struct move_history *history)
{
	struct move_answer answer = { .reason = why(question), .again_us = BASE_USEC_NEVER };
	uint64_t earliest_us = 0;

	if (answer.reason == BASE_REASON_NONE || !question->owned || !question->target_ready) {
		answer.reason = BASE_REASON_NONE;
		return answer;
	}
	if (history->ordered_us)
		earliest_us = history->ordered_us + rest_us(history);
	if (question->ordered && earliest_us < question->order_seen_us + ORDER_US)
		earliest_us = question->order_seen_us + ORDER_US;
	if (question->now_us >= earliest_us && question->moving < MOVING_MAX)
		return answer;
	answer.reason = BASE_REASON_NONE;
	answer.again_us =
		question->now_us < earliest_us ? earliest_us : question->now_us + AGAIN_US;
	return answer;
}

bool move_rested(const struct move_history *history, uint64_t now_us)
{
	return !history->ordered_us || now_us >= history->ordered_us + rest_us(history);
}

void move_ordered(struct move_history *history, uint64_t now_us)
{
	if (!history->ordered_us || now_us - history->ordered_us > CALM_US)
		history->in_a_row = 0;
	history->in_a_row++;
	history->ordered_us = now_us;
}
